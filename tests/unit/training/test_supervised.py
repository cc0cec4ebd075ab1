"""Labelled text in, a checkpoint out: the questions, the training, the stop and the continuation."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from gliclass_spark.cli import main
from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.model import checkpoint, location
from gliclass_spark.model.modeling import GLiClassModel
from gliclass_spark.model.prompt import PromptBuilder
from gliclass_spark.training.dataset import LabelledSet, QuestionDataset, collate, read_folder, read_set
from gliclass_spark.training.evaluate import zero_shot
from gliclass_spark.training.losses import softmax_loss
from gliclass_spark.training.supervised import TrainingConfig, train

_KINDS = ("cat", "dog", "owl")
ANIMALS = LabelledSet(
    "animals", _KINDS, tuple(f"a {kind} {number}" for number in range(8) for kind in _KINDS), ((0,), (1,), (2,)) * 8
)
COLOURS = LabelledSet("colours", ("red", "green", "Cat"), ("it is red", "red and green"), ((0,), (0, 1)))
CONFIG = TrainingConfig(examples=48, batch_size=8, min_labels=2, max_labels=4, save_steps=2, head_lr=1e-3, seed=3)


def questions(tokenizer: PreTrainedTokenizerFast, **changes: object) -> QuestionDataset:
    settings = {"size": 60, "batch_size": 4, "min_labels": 2, "max_labels": 5, "foreign_share": 0.5}
    settings |= {"max_text_tokens": 16, "seed": 1, **changes}
    builder = PromptBuilder(tokenizer, prompt_first=True, max_length=64)
    return QuestionDataset([ANIMALS, COLOURS], builder, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def loaded(tiny_model: str) -> checkpoint.Checkpoint:
    return checkpoint.load(location.resolve(tiny_model))


def test_the_same_seed_asks_the_same_questions_whatever_was_asked_before(loaded: checkpoint.Checkpoint) -> None:
    first, second = questions(loaded.tokenizer), questions(loaded.tokenizer)
    backwards = [second[position] for position in reversed(range(len(second)))]
    assert [first[position] for position in range(len(first))] == backwards[::-1]
    other = questions(loaded.tokenizer, seed=2)
    assert [first[position] for position in range(9)] != [other[position] for position in range(9)]


def test_every_question_holds_the_texts_own_labels_and_no_label_twice(loaded: checkpoint.Checkpoint) -> None:
    asked = questions(loaded.tokenizer)
    for position in range(len(asked)):
        question = asked[position]
        decoded = loaded.tokenizer.decode(question["input_ids"])
        labels = [part.strip() for part in decoded.split("<<SEP>>")[0].split("<<LABEL>>")[1:]]
        text = decoded.split("<<SEP>>")[1]
        assert len(labels) == len(question["labels"]) == len(set(labels))
        true = {label for label, target in zip(labels, question["labels"], strict=True) if target}
        assert true
        assert all(label in text for label in true)
        # "Cat" of the colours and "cat" of the animals read alike: they never stand in one question.
        assert sum(label == "cat" for label in labels) <= 1


def test_collate_pads_on_the_right_and_marks_missing_labels() -> None:
    batch = collate([{"input_ids": [5, 6], "labels": [1.0]}, {"input_ids": [7], "labels": [0.0, 1.0]}], pad_id=9)
    assert batch["input_ids"].tolist() == [[5, 6], [7, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["labels"].tolist() == [[1.0, -1.0], [0.0, 1.0]]


def test_training_lowers_the_loss_and_its_checkpoint_loads(tiny_model: str, tmp_path: Path) -> None:
    start = checkpoint.load(location.resolve(tiny_model))
    asked = questions(start.tokenizer)
    batch = collate([asked[position] for position in range(len(asked))], start.tokenizer.pad_token_id)

    @torch.no_grad()
    def loss(model: GLiClassModel) -> float:
        return softmax_loss(model(batch["input_ids"], batch["attention_mask"]), batch["labels"]).item()

    before = loss(start.model)
    words = start.model.encoder_model.get_input_embeddings().weight.clone()
    folder = train(start.model, start.tokenizer, [ANIMALS, COLOURS], replace(CONFIG, examples=480), tmp_path)
    trained = checkpoint.load(location.resolve(str(folder))).model
    assert torch.equal(trained.encoder_model.get_input_embeddings().weight, words)
    assert loss(trained) < before


def test_zero_shot_counts_an_answer_as_right_if_it_is_one_of_the_labels(tiny_model: str) -> None:
    engine = Engine.from_pretrained(tiny_model, precision="float32")
    every = LabelledSet("all", ANIMALS.labels, ANIMALS.texts, ((0, 1, 2),) * len(ANIMALS))
    assert zero_shot(engine, every, max_rows=10).macro_f1 == 1.0
    none = LabelledSet("none", ("cat", "dog"), ("x",) * 4, ((0,), (1,), (0,), (1,)))
    score = zero_shot(engine, none, max_rows=4)
    # One text can get one answer: right for half of the rows, F1 of 2/3 for that label and 0 for the other.
    assert (score.rows, score.labels, round(score.macro_f1, 6)) == (4, 2, round(1 / 3, 6))


def test_a_training_that_was_stopped_continues_to_the_same_weights(tiny_model: str, tmp_path: Path) -> None:
    def trained(folder: Path) -> dict[str, torch.Tensor]:
        start = checkpoint.load(location.resolve(tiny_model))
        train(start.model, start.tokenizer, [ANIMALS, COLOURS], CONFIG, folder)
        return start.model.state_dict()

    whole = trained(tmp_path / "whole")
    # What a kill behind step 4 of 6 leaves: the steps up to there, and nothing else.
    shutil.copytree(tmp_path / "whole" / "steps" / "checkpoint-4", tmp_path / "stopped" / "steps" / "checkpoint-4")
    continued = trained(tmp_path / "stopped")
    for name, weight in whole.items():
        torch.testing.assert_close(continued[name], weight, rtol=0, atol=1e-6, msg=name)


def test_a_loss_that_is_no_number_stops_the_training(tiny_model: str, tmp_path: Path) -> None:
    start = checkpoint.load(location.resolve(tiny_model))
    with torch.no_grad():
        start.model.text_projector.linear_1.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss is not a number at step"):
        train(start.model, start.tokenizer, [ANIMALS], replace(CONFIG, examples=480), tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_labelled_data_is_read_by_set_and_split(tmp_path: Path) -> None:
    rows = {"text": ["x", "y", "", "z"], "labels": [["a"], ["b", "a"], ["a"], ["c"]], "split": ["train", "test"] * 2}
    pq.write_table(pa.table(rows), tmp_path / "letters.parquet")
    [letters] = read_folder(tmp_path, "test")
    assert letters == LabelledSet("letters", ("a", "b", "c"), ("y", "z"), ((0, 1), (2,)))


def test_data_that_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"holds no \.parquet file"):
        read_folder(tmp_path)
    pq.write_table(pa.table({"text": ["x"], "label": ["a"]}), tmp_path / "no_labels.parquet")
    with pytest.raises(TrainingError, match=r"lacks the column\(s\) labels"):
        read_set(tmp_path / "no_labels.parquet")
    pq.write_table(pa.table({"text": ["x", "y"], "labels": [["a"], ["a"]]}), tmp_path / "one_class.parquet")
    with pytest.raises(TrainingError, match="has 1 label"):
        read_set(tmp_path / "one_class.parquet")


def test_the_train_command_gives_a_folder_that_the_engine_takes(tiny_model: str, tmp_path: Path) -> None:
    rows = {"text": list(ANIMALS.texts), "labels": [[ANIMALS.labels[row]] for (row,) in ANIMALS.targets]}
    pq.write_table(pa.table(rows), tmp_path / "animals.parquet")
    places = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--model", tiny_model]
    assert main(["train", *places, "--examples", "16", "--batch-size", "8"]) == 0
    assert Engine.from_pretrained(str(tmp_path / "out")).scores(["a cat"], ["cat", "dog"]).shape == (1, 2)
