"""PPO training: replay of actions, continuation after a kill, stop on divergence."""

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
from gliclass_spark.training.reinforcement.ppo import Sources, train

_KINDS = ("cat", "dog", "owl")
LABELS = LabelSet.of(*_KINDS, name="animals")
TEXTS = tuple(f"a {kind} {number}" for number in range(8) for kind in _KINDS)
TRUTH = np.tile(np.eye(3, dtype=np.float32), (8, 1))
NOTHING = np.full((24, 3), np.nan, dtype=np.float32)
DECISIONS = LoggedDecisions(LABELS, TEXTS, TRUTH, NOTHING, NOTHING, NOTHING, np.zeros(24, dtype=bool))
CONFIG = Ppo(steps=6, texts=8, save_steps=2, encoder_lr=1e-3, head_lr=1e-2)

Start = Callable[[], Checkpoint]


@pytest.fixture(scope="module", params=["joint", "label-cached"])
def start(request: pytest.FixtureRequest, tiny_model: str, tiny_label_cached_model: str) -> Start:
    uri = tiny_model if request.param == "joint" else tiny_label_cached_model
    return lambda: checkpoint.load(resolve_model(uri))


def judged(size: int = 99) -> Sources:
    return Sources(JudgedBatches(DECISIONS, (), texts=8, replay_share=0, max_weight=1, size=size, seed=0), None)


def logged() -> Sources:
    """Each label was given with probability 1/2, and rewarded if it holds."""
    actions = np.random.default_rng(5).random((24, 3)) < 0.5
    rewards = np.where(actions == (TRUTH > 0), 1, -1).astype(np.float32)
    half = np.full_like(TRUTH, 0.5)
    decisions = replace(DECISIONS, rewards=rewards, actions=actions.astype(np.float32), propensities=half)
    return Sources(None, LoggedBatches(decisions, texts=8, size=99, seed=0))


def test_every_epoch_replays_the_same_actions(start: Start, tmp_path: Path) -> None:
    """With new actions, a policy that hardly moves would not keep a ratio of 1."""
    loaded, history = start(), []
    still = CONFIG.model_copy(update={"encoder_lr": 1e-30, "head_lr": 1e-30, "epochs": 4, "clip_ratio": 1e-6})
    train(
        loaded.model, loaded.tokenizer, judged(), still, tmp_path, on_step=lambda step, metrics: history.append(metrics)
    )
    assert [metrics["clipfrac"] for metrics in history] == [0.0] * CONFIG.steps
    # In bfloat16 a pass with gradients and one without are not the same to the last bit.
    assert [metrics["kl"] for metrics in history] == pytest.approx([0.0] * CONFIG.steps, abs=1e-3)


@pytest.mark.parametrize("sources", [judged, logged])
def test_rewards_rise_with_judged_labels_and_with_logged_decisions(
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
    """Return the mean probability of a right decision."""
    from gliclass_spark.inference.engine import Engine

    scores = Engine(loaded, device="cpu", precision="float32").scores(TEXTS, LABELS)
    return float(np.where(TRUTH > 0, scores, 1 - scores).mean())


def test_a_training_that_was_killed_continues_to_the_same_weights(start: Start, tmp_path: Path) -> None:
    def trained(folder: Path, until: int) -> dict[str, Tensor]:
        loaded = start()

        def kill(step: int, metrics: object) -> None:
            if step == until:
                raise KeyboardInterrupt

        train(loaded.model, loaded.tokenizer, judged(), CONFIG, folder, seed=1, on_step=kill)
        return loaded.model.state_dict()

    uninterrupted = trained(tmp_path / "uninterrupted", until=0)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", until=5)
    continued = trained(tmp_path / "killed", until=0)
    for name, weight in uninterrupted.items():
        torch.testing.assert_close(continued[name], weight, rtol=0, atol=1e-6, msg=name)


def test_a_loss_of_nan_stops_the_training_and_keeps_the_last_checkpoint(start: Start, tmp_path: Path) -> None:
    loaded = start()

    def spoil(step: int, metrics: object) -> None:
        if step == 3:
            with torch.no_grad():
                loaded.model.logit_scale.fill_(float("nan"))
                next(loaded.model.text_projector.parameters()).fill_(float("nan"))

    with pytest.raises(TrainingError, match="the loss, or its gradient, is not a number"):
        train(loaded.model, loaded.tokenizer, judged(), CONFIG, tmp_path, on_step=spoil)
    assert [path.name for path in (tmp_path / "steps").iterdir()] == ["step-2"]
    assert not (tmp_path / "model.safetensors").exists()


def test_a_gradient_of_nan_reaches_no_checkpoint(start: Start, tmp_path: Path) -> None:
    """In the last epoch of a step that is saved, the loss would show it only in the next step."""
    loaded, passes = start(), []

    def spoil(gradient: Tensor) -> Tensor:
        passes.append(gradient)
        return gradient * (float("nan") if len(passes) == 4 * CONFIG.epochs else 1.0)

    next(loaded.model.text_projector.parameters()).register_hook(spoil)
    with pytest.raises(TrainingError, match="the loss, or its gradient, is not a number"):
        train(loaded.model, loaded.tokenizer, judged(), CONFIG, tmp_path, on_step=lambda step, metrics: None)
    assert len(passes) == 4 * CONFIG.epochs
    assert [path.name for path in (tmp_path / "steps").iterdir()] == ["step-2"]
    assert all(torch.isfinite(weight).all() for weight in loaded.model.state_dict().values())


class Broken(Dataset[TrainingBatch]):
    """Batches, the third of which can't be read."""

    def __getitem__(self, position: int) -> TrainingBatch:
        if position == 2:
            raise RuntimeError("disk failure")
        assert judged().judged is not None
        return judged().judged[position]


def test_an_error_in_a_step_is_raised_unchanged(start: Start, tmp_path: Path) -> None:
    loaded, done = start(), []
    with pytest.raises(RuntimeError, match="disk failure"):
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
def test_threshold_actions_follow_the_thresholds_of_the_label_set(
    threshold: float, right_share: float, start: Start, tmp_path: Path
) -> None:
    """One of three labels holds: giving all is right for 1/3 of them, giving none for 2/3."""
    loaded, rewards = start(), []
    config = CONFIG.model_copy(update={"steps": 1, "actions": "threshold", "reward": RewardWeights(f1=0, accuracy=1)})
    train(
        loaded.model,
        loaded.tokenizer,
        judged(),
        config,
        tmp_path,
        label_set=LABELS.model_copy(update={"threshold": threshold}),
        on_step=lambda step, metrics: rewards.append(metrics["reward"]),
    )
    assert rewards == pytest.approx([right_share])


def test_a_training_without_feedback_is_refused(start: Start, tmp_path: Path) -> None:
    loaded = start()
    with pytest.raises(TrainingError, match="neither a judged label nor a rewarded decision"):
        train(loaded.model, loaded.tokenizer, Sources(None, None), CONFIG, tmp_path)


@pytest.mark.parametrize("reward", [-0.6, 0.6])
def test_rewards_of_given_labels_alone_move_the_policy_their_way(start: Start, reward: float, tmp_path: Path) -> None:
    """A value that predicts the reward of giving would leave no advantage."""
    loaded = start()
    before = given(loaded)
    decisions = replace(DECISIONS, rewards=np.full_like(TRUTH, reward), actions=np.ones_like(TRUTH))
    config = CONFIG.model_copy(update={"steps": 10, "kl_weight": 0.0})
    batches = LoggedBatches(decisions, texts=8, size=99, seed=0)
    folder = train(loaded.model, loaded.tokenizer, Sources(None, batches), config, tmp_path)
    after = given(checkpoint.load(resolve_model(str(folder))))
    assert after < 0.1 * before if reward < 0 else 1 - after < 0.1 * (1 - before)


def given(loaded: Checkpoint) -> float:
    """Return the mean probability of giving a label."""
    from gliclass_spark.inference.engine import Engine

    return float(Engine(loaded, device="cpu", precision="float32").scores(TEXTS, LABELS).mean())
