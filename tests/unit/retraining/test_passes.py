"""The length of a supervised training, in passes over the judged documents."""

from __future__ import annotations

import pytest
from pets_retraining import WriteConfig, opened
from pydantic import ValidationError

from gliclass_spark.config.retraining import Supervised


def test_passes_replace_steps() -> None:
    supervised = Supervised(passes=3, texts=32, replay_share=0.5)
    assert supervised.step_count(320, is_replaying=False) == 30
    assert supervised.step_count(320, is_replaying=True) == 60
    assert supervised.step_count(10, is_replaying=False) == 3, "a batch holds each document once"
    assert supervised.step_count(0, is_replaying=True) == 200
    assert Supervised().step_count(320, is_replaying=True) == 200


def test_a_training_has_steps_or_passes() -> None:
    with pytest.raises(ValidationError, match=r"both 'steps' and 'passes', .*; keep one"):
        Supervised(passes=3, steps=200)
    with pytest.raises(ValidationError, match="with replay_share: 1 none is read; write 'steps'"):
        Supervised(passes=3, replay_share=1)


def test_a_training_takes_the_steps_of_its_passes(champion: str, write_config: WriteConfig) -> None:
    retraining = opened(write_config(supervised={"passes": 2, "texts": 10}))
    steps: list[int] = []
    object.__setattr__(retraining, "on_metrics", lambda step, updates, metrics: steps.append(updates))
    retraining.supervised()
    assert len(retraining.data.training) == 20
    assert (retraining.supervised_steps, max(steps)) == (4, 4)
