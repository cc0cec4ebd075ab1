"""Labelled text in, a checkpoint out: the training of each kind of model, the stop and the continuation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import Dataset

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.cli.app import main
from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.model import checkpoint
from gliclass_spark.model.checkpoint import Checkpoint, Model
from gliclass_spark.training.adapters import add_adapters, merge_adapters
from gliclass_spark.training.data.batches import BatchSampler, SamplingConfig, TrainingBatch
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.forward_pass import trainable_model
from gliclass_spark.training.losses import softmax_loss
from gliclass_spark.training.supervised import TrainingConfig, train, train_on

_KINDS = ("cat", "dog", "owl")
ANIMALS = LabelledSet(
    "animals", _KINDS, tuple(f"a {kind} {number}" for number in range(8) for kind in _KINDS), ((0,), (1,), (2,)) * 8
)
COLOURS = LabelledSet("colours", ("red", "green", "Cat"), ("it is red", "red and green"), ((0,), (0, 1)))
SETS = [ANIMALS, COLOURS]
QUESTION = SamplingConfig(texts=4, min_labels=2, max_labels=4, foreign_share=0.3)
CONFIG = TrainingConfig(steps=6, question=QUESTION, save_steps=2, encoder_lr=1e-4, head_lr=1e-3, seed=3)

Start = Callable[[], Checkpoint]


@pytest.fixture(scope="module", params=["joint", "label-cached"])
def start(request: pytest.FixtureRequest, tiny_model: str, tiny_label_cached_model: str) -> Start:
    """A way to load the same small model again and again."""
    uri = tiny_model if request.param == "joint" else tiny_label_cached_model
    return lambda: checkpoint.load(resolve_model(uri))


@torch.no_grad()
def loss(model: Model, loaded: Checkpoint) -> float:
    """Over questions that the training may have asked."""
    asked = trainable_model(model, loaded.tokenizer, 16)
    questions = BatchSampler(SETS, QUESTION, size=20, seed=3)
    total = 0.0
    for position in range(len(questions)):
        inputs = asked.inputs(questions[position])
        targets = inputs.pop("targets")
        total += softmax_loss(asked.logits(inputs), targets).item()
    return total


@pytest.mark.parametrize("lora_rank", [None, 4], ids=["full", "lora"])
def test_training_lowers_the_loss_and_its_checkpoint_loads(start: Start, lora_rank: int | None, tmp_path: Path) -> None:
    loaded = start()
    before = loss(loaded.model, loaded)
    names = set(loaded.model.state_dict())
    words = loaded.model.encoder_model.get_input_embeddings().weight.clone()
    config = replace(CONFIG, steps=60, lora_rank=lora_rank, encoder_lr=1e-3)
    folder = train(loaded.model, loaded.tokenizer, SETS, config, tmp_path)
    trained = checkpoint.load(resolve_model(str(folder))).model
    assert set(trained.state_dict()) == names
    assert torch.equal(trained.encoder_model.get_input_embeddings().weight, words)
    assert loss(trained, loaded) < before


def test_adapters_change_nothing_until_they_are_trained_and_leave_nothing_behind(start: Start) -> None:
    loaded = start()
    expected = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    before = loss(loaded.model, loaded)
    add_adapters(loaded.model.encoder_model, rank=4)
    trained = [name for name, weight in loaded.model.encoder_model.named_parameters() if weight.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)
    assert loss(loaded.model, loaded) == pytest.approx(before, abs=1e-5)
    merge_adapters(loaded.model.encoder_model)
    found = loaded.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_a_training_that_was_stopped_continues_to_the_same_weights(start: Start, tmp_path: Path) -> None:
    def trained(folder: Path) -> dict[str, torch.Tensor]:
        loaded = start()
        train(loaded.model, loaded.tokenizer, SETS, CONFIG, folder)
        return loaded.model.state_dict()

    whole = trained(tmp_path / "whole")
    # What a kill leaves while it writes what stands behind step 6 of 6: the steps up to 4, and a part of that.
    shutil.copytree(tmp_path / "whole" / "steps", tmp_path / "stopped" / "steps")
    (tmp_path / "stopped" / "steps" / "checkpoint-6" / "trainer_state.json").unlink()
    continued = trained(tmp_path / "stopped")
    for name, weight in whole.items():
        torch.testing.assert_close(continued[name], weight, rtol=0, atol=1e-6, msg=name)


def test_frozen_layers_stay_as_they_are_and_those_above_learn(start: Start, tmp_path: Path) -> None:
    loaded = start()
    before = {name: weight.clone() for name, weight in loaded.model.encoder_model.named_parameters()}
    train(loaded.model, loaded.tokenizer, SETS, replace(CONFIG, frozen_layers=1), tmp_path)
    after = dict(loaded.model.encoder_model.named_parameters())
    changed = {name for name, weight in before.items() if "layer." in name and not torch.equal(after[name], weight)}
    assert changed
    assert not {name for name in changed if "layer.0." in name}


def test_a_pull_keeps_the_weights_near_their_start(start: Start, tmp_path: Path) -> None:
    def moved(folder: Path, start_pull: float) -> float:
        loaded = start()
        before = {name: weight.detach().clone() for name, weight in loaded.model.named_parameters()}
        train(loaded.model, loaded.tokenizer, SETS, replace(CONFIG, steps=30, start_pull=start_pull), folder)
        return sum(float((weight - before[name]).square().sum()) for name, weight in loaded.model.named_parameters())

    assert moved(tmp_path / "drawn", 100.0) < 0.9 * moved(tmp_path / "free", 0.0)


def test_weights_are_averaged_with_those_of_before_the_training(start: Start, tmp_path: Path) -> None:
    def trained(folder: Path, start_share: float) -> dict[str, torch.Tensor]:
        loaded = start()
        train(loaded.model, loaded.tokenizer, SETS, replace(CONFIG, start_share=start_share), folder)
        return loaded.model.state_dict()

    before = start().model.state_dict()
    learned, averaged = trained(tmp_path / "learned", 0.0), trained(tmp_path / "averaged", 0.25)
    for name, weight in averaged.items():
        torch.testing.assert_close(weight, 0.25 * before[name] + 0.75 * learned[name], rtol=0, atol=1e-6, msg=name)
    assert any(not torch.equal(learned[name], weight) for name, weight in before.items())


class WithPoison(Dataset[TrainingBatch]):
    """Questions, the sixth of which no loss can take."""

    def __init__(self, weight: float) -> None:
        self._questions = BatchSampler(SETS, QUESTION, size=CONFIG.steps, seed=3)
        self._weight = weight

    def __len__(self) -> int:
        return len(self._questions)

    def __getitem__(self, position: int) -> TrainingBatch:
        question = self._questions[position]
        weight = self._weight if position == 5 else 1.0
        return replace(question, weights=np.full_like(question.targets, weight))


def test_a_loss_that_is_no_number_stops_the_training_before_it_reaches_the_weights(
    start: Start, tmp_path: Path
) -> None:
    def trained(weight: float) -> dict[str, torch.Tensor]:
        loaded = start()
        train_on(WithPoison(weight), loaded.model, loaded.tokenizer, replace(CONFIG, save_steps=5), tmp_path)
        return loaded.model.state_dict()

    with pytest.raises(TrainingError, match="the loss, or its gradient, is not a number at step 6; the last"):
        trained(float("inf"))
    assert not (tmp_path / "model.safetensors").exists()
    assert [found.name for found in (tmp_path / "steps").iterdir()] == ["checkpoint-5"]
    # What is kept is good: the training goes on from there.
    assert all(torch.isfinite(weight).all() for weight in trained(1.0).values())


def test_the_train_command_gives_a_folder_that_the_engine_takes(tiny_model: str, tmp_path: Path) -> None:
    rows = {"text": list(ANIMALS.texts), "labels": [[ANIMALS.labels[row]] for (row,) in ANIMALS.targets]}
    pq.write_table(pa.table(rows), tmp_path / "animals.parquet")
    places = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--model", tiny_model]
    assert main(["train", *places, "--shots", "2", "--steps", "2", "--texts", "4"]) == 0
    assert Engine.from_pretrained(str(tmp_path / "out")).scores(["a cat"], ["cat", "dog"]).shape == (1, 2)
