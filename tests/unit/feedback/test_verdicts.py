"""The vocabulary of feedback: what each verdict says, and what it must come with."""

from __future__ import annotations

import pytest

from gliclass_spark.feedback.verdicts import REQUIRED, SIGNAL_KEY, VERDICTS, Verdict

BY_NAME = {verdict.name: verdict for verdict in VERDICTS}


def test_every_verdict_has_a_name_of_its_own() -> None:
    assert list(BY_NAME) == [verdict.name for verdict in VERDICTS]
    explicit = {name for name, verdict in BY_NAME.items() if verdict.explicit}
    assert explicit == {"accepted", "rejected", "corrected", "rated"}
    assert set(BY_NAME) - explicit == {"clicked", "dwelled", "loss", "deduplicated"}


def test_only_explicit_verdicts_say_whether_a_label_holds() -> None:
    targets = {name: verdict.target for name, verdict in BY_NAME.items() if verdict.target is not None}
    assert targets == {"accepted": 1, "corrected": 1, "rejected": 0}


@pytest.mark.parametrize("verdict", VERDICTS, ids=[verdict.name for verdict in VERDICTS])
def test_a_reward_must_be_stated_where_none_is_obvious(verdict: Verdict) -> None:
    assert verdict.states_reward == (verdict.name in {"rated", "dwelled", "loss"})
    assert verdict.reward is None or -1.0 <= verdict.reward <= 1.0


def test_what_a_file_must_hold_tells_signals_apart() -> None:
    assert set(SIGNAL_KEY) - set(REQUIRED) == {"label_set_hash"}
    assert set(REQUIRED) <= set(SIGNAL_KEY)
