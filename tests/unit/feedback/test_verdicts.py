"""Verdicts: their targets and rewards, and the required fields of a signal."""

from __future__ import annotations

import pytest

from gliclass_spark.feedback.verdicts import REQUIRED, SIGNAL_KEY, VERDICTS, Verdict

BY_NAME = {verdict.name: verdict for verdict in VERDICTS}


def test_verdict_names_are_unique() -> None:
    assert list(BY_NAME) == [verdict.name for verdict in VERDICTS]
    explicit = {name for name, verdict in BY_NAME.items() if verdict.explicit}
    assert explicit == {"accepted", "rejected", "corrected", "rated"}
    assert set(BY_NAME) - explicit == {"clicked", "dwelled", "loss", "deduplicated"}


def test_only_explicit_verdicts_have_a_target() -> None:
    targets = {name: verdict.target for name, verdict in BY_NAME.items() if verdict.target is not None}
    assert targets == {"accepted": 1, "corrected": 1, "rejected": 0}


@pytest.mark.parametrize("verdict", VERDICTS, ids=[verdict.name for verdict in VERDICTS])
def test_a_verdict_without_target_and_default_reward_requires_a_reward(verdict: Verdict) -> None:
    assert verdict.states_reward == (verdict.name in {"rated", "dwelled", "loss"})
    assert verdict.reward is None or -1.0 <= verdict.reward <= 1.0


def test_required_fields_identify_a_signal() -> None:
    assert set(SIGNAL_KEY) - set(REQUIRED) == {"label_set_hash", "label"}
    assert set(REQUIRED) <= set(SIGNAL_KEY)
