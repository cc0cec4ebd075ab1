"""Supervised training: each architecture, continuation after a stop, stop on divergence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import Dataset
from transformers import TrainerCallback

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.cli.app import main
from gliclass_spark.config.training import SamplingConfig, TrainingConfig
from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.model import checkpoint
from gliclass_spark.model.checkpoint import Checkpoint, Model
from gliclass_spark.training.adapters import add_adapters, merge_adapters
from gliclass_spark.training.data.batches import BatchSampler, TrainingBatch
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.forward_pass import trainable_model
from gliclass_spark.training.losses import softmax_loss
from gliclass_spark.training.supervised import train, train_on

_KINDS = ("cat", "dog", "owl")
ANIMALS = LabelledSet(
    "animals", _KINDS, tuple(f"a {kind} {number}" for number in range(8) for kind in _KINDS), ((0,), (1,), (2,)) * 8
)
COLOURS = LabelledSet("colours", ("red", "green", "Cat"), ("it is red", "red and green"), ((0,), (0, 1)))
SETS = [ANIMALS, COLOURS]
SAMPLING = SamplingConfig(texts=4, min_labels=2, max_labels=4, negative_share=0.3)
CONFIG = TrainingConfig(steps=6, sampling=SAMPLING, save_steps=2, encoder_lr=1e-4, head_lr=1e-3, seed=3)

Start = Callable[[], Checkpoint]


@pytest.fixture(scope="module", params=["joint", "label-cached"])
def start(request: pytest.FixtureRequest, tiny_model: str, tiny_label_cached_model: str) -> Start:
    """Loads the same small model anew."""
    uri = tiny_model if request.param == "joint" else tiny_label_cached_model
    return lambda: checkpoint.load(resolve_model(uri))


@torch.no_grad()
def loss(model: Model, loaded: Checkpoint) -> float:
    """Return the softmax loss over some training batches."""
    trainable = trainable_model(model, loaded.tokenizer, 16)
    batches = BatchSampler(SETS, SAMPLING, size=20, seed=3)
    total = 0.0
    for position in range(len(batches)):
        inputs = trainable.inputs(batches[position])
        targets = inputs.pop("targets")
        total += softmax_loss(trainable.logits(inputs), targets).item()
    return total


@pytest.mark.parametrize("lora_rank", [None, 4], ids=["full", "lora"])
def test_training_lowers_the_loss_and_its_checkpoint_loads(start: Start, lora_rank: int | None, tmp_path: Path) -> None:
    loaded = start()
    before = loss(loaded.model, loaded)
    names = set(loaded.model.state_dict())
    words = loaded.model.encoder_model.get_input_embeddings().weight.clone()
    config = CONFIG.model_copy(update={"steps": 60, "lora_rank": lora_rank, "encoder_lr": 1e-3})
    folder = train(loaded.model, loaded.tokenizer, SETS, config, tmp_path)
    trained = checkpoint.load(resolve_model(str(folder))).model
    assert set(trained.state_dict()) == names
    assert torch.equal(trained.encoder_model.get_input_embeddings().weight, words)
    assert loss(trained, loaded) < before


def test_untrained_adapters_change_no_logit_and_merging_removes_them(start: Start) -> None:
    loaded = start()
    expected = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    before = loss(loaded.model, loaded)
    add_adapters(loaded.model.encoder_model, rank=4)
    trained = [name for name, weight in loaded.model.encoder_model.named_parameters() if weight.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)
    assert loss(loaded.model, loaded) == pytest.approx(before, abs=1e-5)
    merge_adapters(loaded.model.encoder_model)
    merged = loaded.model.state_dict()
    assert merged.keys() == expected.keys()
    assert all(torch.equal(merged[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize("ema_decay", [None, 0.5], ids=["last", "average"])
def test_a_training_that_was_stopped_continues_to_the_same_weights(
    start: Start, ema_decay: float | None, tmp_path: Path
) -> None:
    def trained(folder: Path) -> dict[str, torch.Tensor]:
        loaded = start()
        config = CONFIG.model_copy(update={"ema_decay": ema_decay})
        train(loaded.model, loaded.tokenizer, SETS, config, folder)
        return loaded.model.state_dict()

    uninterrupted = trained(tmp_path / "uninterrupted")
    # As after a kill while the checkpoint of step 6 of 6 is written: those up to step 4, and a part of this one.
    shutil.copytree(tmp_path / "uninterrupted" / "steps", tmp_path / "stopped" / "steps")
    (tmp_path / "stopped" / "steps" / "checkpoint-6" / "trainer_state.json").unlink()
    continued = trained(tmp_path / "stopped")
    for name, weight in uninterrupted.items():
        torch.testing.assert_close(continued[name], weight, rtol=0, atol=1e-6, msg=name)


def test_parameters_without_gradients_stay_as_they_are(start: Start, tmp_path: Path) -> None:
    loaded = start()
    loaded.model.encoder_model.encoder.layer[0].requires_grad_(False)
    before = {name: weight.clone() for name, weight in loaded.model.encoder_model.named_parameters()}
    train(loaded.model, loaded.tokenizer, SETS, CONFIG, tmp_path)
    after = dict(loaded.model.encoder_model.named_parameters())
    changed = {name for name, weight in before.items() if "layer." in name and not torch.equal(after[name], weight)}
    assert changed
    assert not {name for name in changed if "layer.0." in name}


def test_a_loss_of_the_caller_replaces_the_default(start: Start, tmp_path: Path) -> None:
    loaded, shapes = start(), []

    def loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        shapes.append((logits.shape, targets.shape, weights))
        return 0.0 * logits.sum()

    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    config = CONFIG.model_copy(update={"weight_decay": 0.0})
    train(loaded.model, loaded.tokenizer, SETS, config, tmp_path, loss=loss)
    assert len(shapes) == CONFIG.steps
    assert all(logits == targets and weights is None for logits, targets, weights in shapes)
    assert all(torch.equal(loaded.model.state_dict()[name], weight) for name, weight in before.items())


def test_saved_weights_are_averaged_with_the_starting_weights(start: Start, tmp_path: Path) -> None:
    def trained(folder: Path, start_weight_share: float) -> dict[str, torch.Tensor]:
        loaded = start()
        train(
            loaded.model,
            loaded.tokenizer,
            SETS,
            CONFIG.model_copy(update={"start_weight_share": start_weight_share}),
            folder,
        )
        return loaded.model.state_dict()

    before = start().model.state_dict()
    plain, averaged = trained(tmp_path / "plain", 0.0), trained(tmp_path / "averaged", 0.25)
    for name, weight in averaged.items():
        torch.testing.assert_close(weight, 0.25 * before[name] + 0.75 * plain[name], rtol=0, atol=1e-6, msg=name)
    assert any(not torch.equal(plain[name], weight) for name, weight in before.items())


@pytest.mark.parametrize("lora_rank", [None, 4], ids=["full", "lora"])
def test_saved_weights_are_the_moving_average_of_those_after_each_step(
    start: Start, lora_rank: int | None, tmp_path: Path
) -> None:
    after_steps: list[dict[str, torch.Tensor]] = []

    class CollectWeights(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            after_steps.append({name: weight.clone() for name, weight in model.gliclass.state_dict().items()})

    loaded = start()
    config = CONFIG.model_copy(update={"ema_decay": 0.75, "lora_rank": lora_rank})
    train(loaded.model, loaded.tokenizer, SETS, config, tmp_path, [CollectWeights()])
    expected, *later = after_steps
    for weights in later:
        expected = {name: 0.75 * average + 0.25 * weights[name] for name, average in expected.items()}
    saved = checkpoint.load(resolve_model(str(tmp_path))).model.state_dict()
    same_names = saved.keys() & expected.keys()
    assert lora_rank is not None or same_names == saved.keys()
    assert any(not torch.equal(expected[name], after_steps[-1][name]) for name in same_names)
    for name in same_names:
        torch.testing.assert_close(saved[name], expected[name], rtol=1e-6, atol=1e-6, msg=name)


class WeightedBatches(Dataset[TrainingBatch]):
    """Batches, the sixth of which has the given weights."""

    def __init__(self, weight: float) -> None:
        self._batches = BatchSampler(SETS, SAMPLING, size=CONFIG.steps, seed=3)
        self._weight = weight

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, position: int) -> TrainingBatch:
        batch = self._batches[position]
        weight = self._weight if position == 5 else 1.0
        return replace(batch, weights=np.full_like(batch.targets, weight))


def test_an_infinite_loss_stops_the_training_before_the_update(start: Start, tmp_path: Path) -> None:
    def trained(weight: float) -> dict[str, torch.Tensor]:
        loaded = start()
        train_on(
            WeightedBatches(weight),
            loaded.model,
            loaded.tokenizer,
            CONFIG.model_copy(update={"save_steps": 5}),
            tmp_path,
        )
        return loaded.model.state_dict()

    with pytest.raises(TrainingError, match="the loss, or its gradient, is not a number at step 6; the last"):
        trained(float("inf"))
    assert not (tmp_path / "model.safetensors").exists()
    assert [path.name for path in (tmp_path / "steps").iterdir()] == ["checkpoint-5"]
    # The training can continue from the checkpoint that is kept.
    assert all(torch.isfinite(weight).all() for weight in trained(1.0).values())


def test_the_train_command_gives_a_folder_that_the_engine_takes(tiny_model: str, tmp_path: Path) -> None:
    rows = {"text": list(ANIMALS.texts), "labels": [[ANIMALS.labels[row]] for (row,) in ANIMALS.targets]}
    pq.write_table(pa.table(rows), tmp_path / "animals.parquet")
    paths = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--model", tiny_model]
    settings = tmp_path / "training.yaml"
    settings.write_text("sampling: {texts: 4}\nsteps: 9\n")
    assert main(["train", *paths, "--shots", "2", "--steps", "2", "--config", str(settings)]) == 0
    assert Engine.from_pretrained(str(tmp_path / "out")).scores(["a cat"], ["cat", "dog"]).shape == (1, 2)
