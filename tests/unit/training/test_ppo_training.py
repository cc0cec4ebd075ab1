"""PPO from its first step to its last: replayed, killed and continued, stopped where a number is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.retraining import Ppo, RewardWeights
from gliclass_spark.errors import TrainingError
from gliclass_spark.labels import LabelSet
from gliclass_spark.model import checkpoint
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.training.data.batches import TrainingBatch
from gliclass_spark.training.data.feedback_batches import JudgedBatches, LoggedBatches
from gliclass_spark.training.data.logged_decisions import LoggedDecisions
from gliclass_spark.training.ppo import Sources, train

_KINDS = ("cat", "dog", "owl")
LABELS = LabelSet.of(*_KINDS, name="animals")
TEXTS = tuple(f"a {kind} {number}" for number in range(8) for kind in _KINDS)
HELD = np.tile(np.eye(3, dtype=np.float32), (8, 1))
NOTHING = np.full((24, 3), np.nan, dtype=np.float32)
DECISIONS = LoggedDecisions(LABELS, TEXTS, HELD, NOTHING, NOTHING, NOTHING, np.zeros(24, dtype=bool))
CONFIG = Ppo(steps=6, texts=8, save_steps=2, encoder_lr=1e-3, head_lr=1e-2)

Start = Callable[[], Checkpoint]


@pytest.fixture(scope="module", params=["joint", "label-cached"])
def start(request: pytest.FixtureRequest, tiny_model: str, tiny_label_cached_model: str) -> Start:
    uri = tiny_model if request.param == "joint" else tiny_label_cached_model
    return lambda: checkpoint.load(resolve_model(uri))


def known(size: int = 99) -> Sources:
    return Sources(JudgedBatches(DECISIONS, (), texts=8, replay_share=0, max_weight=1, size=size, seed=0), None)


def logged() -> Sources:
    """Each label was drawn with probability a half, and rewarded if it held."""
    drawn = np.random.default_rng(5).random((24, 3)) < 0.5
    earned = np.where(drawn == (HELD > 0), 1, -1).astype(np.float32)
    half = np.full_like(HELD, 0.5)
    decisions = replace(DECISIONS, rewards=earned, chosen=drawn.astype(np.float32), propensities=half)
    return Sources(None, LoggedBatches(decisions, texts=8, size=99, seed=0))


def test_in_every_epoch_the_very_actions_are_replayed(start: Start, tmp_path: Path) -> None:
    """Were they drawn anew, a policy that hardly moves would not keep a ratio of 1."""
    loaded, found = start(), []
    still = CONFIG.model_copy(update={"encoder_lr": 1e-30, "head_lr": 1e-30, "epochs": 4, "clip_ratio": 1e-6})
    train(loaded.model, loaded.tokenizer, known(), still, tmp_path, on_step=lambda step, metrics: found.append(metrics))
    assert [metrics["clipped_share"] for metrics in found] == [0.0] * CONFIG.steps
    # In bfloat16 a pass with gradients and one without are not the same to the last bit.
    assert [metrics["kl"] for metrics in found] == pytest.approx([0.0] * CONFIG.steps, abs=1e-3)


@pytest.mark.parametrize("sources", [known, logged])
def test_rewards_rise_where_labels_are_known_and_where_only_outcomes_are(
    start: Start, sources: Callable[[], Sources], tmp_path: Path
) -> None:
    loaded = start()
    before = right(loaded)
    accuracy = RewardWeights(f1=0, accuracy=1)
    config = CONFIG.model_copy(update={"steps": 60, "kl_weight": 0.0, "reward": accuracy})
    folder = train(loaded.model, loaded.tokenizer, sources(), config, tmp_path)
    assert right(checkpoint.load(resolve_model(str(folder)))) > before


@torch.no_grad()
def right(loaded: Checkpoint) -> float:
    """The mean probability of a right decision."""
    from gliclass_spark.inference.engine import Engine

    scores = Engine(loaded, device="cpu", precision="float32").scores(TEXTS, LABELS)
    return float(np.where(HELD > 0, scores, 1 - scores).mean())


def test_a_training_that_was_killed_continues_to_the_same_weights(start: Start, tmp_path: Path) -> None:
    def trained(folder: Path, until: int) -> dict[str, Tensor]:
        loaded = start()

        def kill(step: int, metrics: object) -> None:
            if step == until:
                raise KeyboardInterrupt

        train(loaded.model, loaded.tokenizer, known(), CONFIG, folder, seed=1, on_step=kill)
        return loaded.model.state_dict()

    whole = trained(tmp_path / "whole", until=0)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", until=5)
    continued = trained(tmp_path / "killed", until=0)
    for name, weight in whole.items():
        torch.testing.assert_close(continued[name], weight, rtol=0, atol=1e-6, msg=name)


def test_a_loss_that_is_no_number_stops_the_training_and_keeps_the_last_checkpoint(
    start: Start, tmp_path: Path
) -> None:
    loaded = start()

    def spoil(step: int, metrics: object) -> None:
        if step == 3:
            with torch.no_grad():
                loaded.model.logit_scale.fill_(float("nan"))
                next(loaded.model.text_projector.parameters()).fill_(float("nan"))

    with pytest.raises(TrainingError, match="the loss, or its gradient, is not a number"):
        train(loaded.model, loaded.tokenizer, known(), CONFIG, tmp_path, on_step=spoil)
    assert [path.name for path in (tmp_path / "steps").iterdir()] == ["step-2"]
    assert not (tmp_path / "model.safetensors").exists()


def test_a_gradient_that_is_no_number_reaches_no_checkpoint(start: Start, tmp_path: Path) -> None:
    """In the last epoch of a step that is saved no loss would tell of it before the next step."""
    loaded, passes = start(), []

    def spoil(gradient: Tensor) -> Tensor:
        passes.append(gradient)
        return gradient * (float("nan") if len(passes) == 4 * CONFIG.epochs else 1.0)

    next(loaded.model.text_projector.parameters()).register_hook(spoil)
    with pytest.raises(TrainingError, match="the loss, or its gradient, is not a number"):
        train(loaded.model, loaded.tokenizer, known(), CONFIG, tmp_path, on_step=lambda step, metrics: None)
    assert len(passes) == 4 * CONFIG.epochs
    assert [path.name for path in (tmp_path / "steps").iterdir()] == ["step-2"]
    assert all(torch.isfinite(weight).all() for weight in loaded.model.state_dict().values())


class Broken(Dataset[TrainingBatch]):
    """Questions, the third of which can't be asked."""

    def __getitem__(self, position: int) -> TrainingBatch:
        if position == 2:
            raise RuntimeError("the disk is gone")
        assert known().known is not None
        return known().known[position]


def test_what_goes_wrong_in_a_step_stops_the_training_as_it_is(start: Start, tmp_path: Path) -> None:
    loaded, done = start(), []
    with pytest.raises(RuntimeError, match="the disk is gone"):
        train(
            loaded.model,
            loaded.tokenizer,
            Sources(Broken(), None),
            CONFIG,
            tmp_path,
            on_step=lambda step, metrics: done.append(step),
        )
    assert done == [1, 2]
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(("threshold", "right_share"), [(0.0, 1 / 3), (1.0, 2 / 3)])
def test_actions_by_threshold_are_those_that_the_label_set_gives(
    threshold: float, right_share: float, start: Start, tmp_path: Path
) -> None:
    """Of three labels one holds: all of them given are right about a third, none of them about two thirds."""
    loaded, found = start(), []
    config = CONFIG.model_copy(update={"steps": 1, "actions": "threshold", "reward": RewardWeights(f1=0, accuracy=1)})
    train(
        loaded.model,
        loaded.tokenizer,
        known(),
        config,
        tmp_path,
        label_set=LABELS.model_copy(update={"threshold": threshold}),
        on_step=lambda step, metrics: found.append(metrics["reward"]),
    )
    assert found == pytest.approx([right_share])


def test_there_must_be_something_to_learn_from(start: Start, tmp_path: Path) -> None:
    loaded = start()
    with pytest.raises(TrainingError, match="neither a known label nor a rewarded decision"):
        train(loaded.model, loaded.tokenizer, Sources(None, None), CONFIG, tmp_path)
