"""Evaluation: scores, baselines, comparisons and calibration."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from mlflow import MlflowClient
from rich.console import Console
from transformers import BertConfig, BertForSequenceClassification

from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.cli.app import main
from gliclass_spark.cli.output.training_output import show_scores
from gliclass_spark.errors import CheckpointError, TrainingError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import LabelSet
from gliclass_spark.model import checkpoint
from gliclass_spark.model.embedded import weights
from gliclass_spark.training.data.labelled_text import LabelledSet, read_sets
from gliclass_spark.training.evaluation.baselines import EmbeddingClassifier, similarity_checkpoint
from gliclass_spark.training.evaluation.calibrate import calibrate
from gliclass_spark.training.evaluation.comparison import BaselineComparison
from gliclass_spark.training.evaluation.cross_encoder import CrossEncoderClassifier
from gliclass_spark.training.evaluation.evaluate import sample, score
from gliclass_spark.training.evaluation.logit_regression import LogitRegression
from gliclass_spark.training.few_shot import few_shot_config

_KINDS = ("cat", "dog", "owl")
TEXTS = tuple(f"a {kind} number {number}" for number in range(20) for kind in _KINDS)
ANIMALS = LabelledSet("animals", _KINDS, TEXTS, ((0,), (1,), (2,)) * 20)
TRAIN = ANIMALS.rows(range(30))
TEST = ANIMALS.rows(range(30, 60))


class Fixed:
    """Predicts the column in the text's last character; "?" is a text that can't be scored."""

    def logits(self, texts: list[str], labels: LabelSet) -> np.ndarray:
        logits = np.zeros((len(texts), len(labels)), dtype=np.float32)
        for row, text in enumerate(texts):
            logits[row] = np.nan if text[-1] == "?" else np.eye(len(labels))[int(text[-1])]
        return logits


def sequence_classifier(folder: Path, names: list[str]) -> str:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    weights.tokenizer().save_pretrained(folder)
    return str(folder)


def test_scores_are_f1_of_the_best_label() -> None:
    labelled = LabelledSet("x", ("a", "b", "c"), ("0", "0", "1", "1"), ((0,), (1,), (1, 2), (0,)))
    result = score(Fixed(), labelled, name="fixed")
    # a and b: predicted twice, once rightly, and missed once; c is the other label of a right prediction.
    assert result.per_label == {"a": 0.5, "b": 0.5}
    assert (result.macro_f1, result.micro_f1, result.rows, result.labels) == (0.5, 0.5, 4, 3)


def test_the_labels_with_the_lowest_f1_are_shown_first() -> None:
    labelled = LabelledSet("x", ("a", "[b]", "c"), ("0", "0", "1", "2"), ((0,), (1,), (1,), (2,)))
    console = Console(width=80, record=True, file=io.StringIO())
    show_scores(console, [score(Fixed(), labelled, name="fixed")])
    shown = [" ".join(line.strip("│ ").split("│")).split() for line in console.export_text().splitlines()]
    assert ["mean", "micro-F1", "0.750"] in shown
    assert [row for row in shown if row[0] in {"a", "[b]", "c"}] == [["[b]", "0.667"], ["a", "0.667"], ["c", "1.000"]]


def test_a_text_without_a_score_counts_as_wrong() -> None:
    labelled = LabelledSet("x", ("a", "b"), ("0", "?", "1", "1"), ((0,), (0,), (1,), (1,)))
    result = score(Fixed(), labelled, name="fixed")
    assert result.per_label == {"a": pytest.approx(2 / 3), "b": 1.0}
    assert result.micro_f1 == 0.75


def test_the_same_rows_are_drawn_for_every_contender() -> None:
    assert sample(ANIMALS, 10) == sample(ANIMALS, 10)
    assert len(sample(ANIMALS, 10)) == 10
    assert sorted(sample(ANIMALS, 999).texts) == sorted(TEXTS)


def test_a_classifier_on_embeddings_fits_few_examples() -> None:
    fitted = EmbeddingClassifier(similarity_checkpoint("embedded")).fit(TRAIN)
    assert score(fitted, TEST, name="regression").macro_f1 == 1.0


class _Lengths:
    """A model whose logits are the length of the text, and minus it."""

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray:
        lengths = np.array([[len(text), -len(text)] for text in texts], dtype=np.float32)
        return np.column_stack([lengths, np.zeros((len(texts), len(labels) - 2), dtype=np.float32)])


def test_a_regression_on_logits_corrects_a_model_that_confuses_labels() -> None:
    """The model says cat to long texts, where the examples say dog; of owls there is none."""
    examples = LabelledSet("animals", _KINDS, ("aaaa", "a", "aaaaa", "aa"), ((1,), (0,), (1,), (0,)))
    fitted = LogitRegression(_Lengths()).fit(examples)
    logits = fitted.logits(["a", "aaaaaa"], LabelSet.of(*_KINDS))
    assert logits.argmax(axis=1).tolist() == [0, 1]
    assert np.isneginf(logits[:, 2]).all()
    with pytest.raises(TrainingError, match="animals has texts of 1 label"):
        LogitRegression(_Lengths()).fit(examples.rows([0, 2]))


@pytest.mark.parametrize(("texts", "steps"), [(2, 30), (200, 50), (4000, 100)])
def test_few_shot_training_has_all_labels_in_each_batch_and_a_bounded_number_of_steps(texts: int, steps: int) -> None:
    examples = LabelledSet("x", _KINDS, TEXTS[:1] * texts, ((0,),) * texts)
    config = few_shot_config(examples, seed=1)
    assert (config.sampling.min_labels, config.sampling.max_labels, config.sampling.negative_share) == (3, 3, 0.0)
    assert (config.steps, config.seed) == (steps, 1)


def test_a_classifier_of_two_labels_and_one_of_several_at_once_give_a_column_each() -> None:
    two = LabelledSet("two", ("cat", "dog"), ("a cat", "a dog"), ((0,), (1,)))
    several = LabelledSet("several", ("cat", "dog"), ("a cat", "a dog", "a cat and a dog"), ((0,), (1,), (0, 1)))
    for labelled in (two, several):
        logits = (
            EmbeddingClassifier(similarity_checkpoint("embedded"))
            .fit(labelled)
            .logits(labelled.texts, LabelSet.of("x", "y"))
        )
        assert logits.shape == (len(labelled), 2)
        assert logits[:2].argmax(axis=1).tolist() == [0, 1]


def test_a_label_without_an_example_is_never_predicted() -> None:
    for targets in [((0,), (2,), (2,)), ((0,), (2,), (0, 2))]:
        labelled = LabelledSet("animals", _KINDS, ("a cat", "an owl", "both"), targets)
        logits = (
            EmbeddingClassifier(similarity_checkpoint("embedded")).fit(labelled).logits(["a dog"], LabelSet.of(*_KINDS))
        )
        assert np.isneginf(logits).tolist() == [[False, True, False]]


def test_a_classifier_of_one_label_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"animals has texts of 1 label\(s\); a classifier needs two"):
        EmbeddingClassifier(similarity_checkpoint("embedded")).fit(LabelledSet("animals", _KINDS, ("a cat",), ((0,),)))


def test_similarity_takes_the_encoder_of_any_checkpoint(tiny_model: str) -> None:
    loaded = checkpoint.load(resolve_model(tiny_model))
    bare = similarity_checkpoint(tiny_model)
    ours, theirs = bare.model.encoder_model.state_dict(), loaded.model.encoder_model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert np.isfinite(Engine(bare).logits(["a cat"], ["cat", "dog"])).all()


@pytest.mark.parametrize("names", [["contradiction", "entailment"], ["entailment", "neutral"], ["LABEL_0"]])
def test_a_cross_encoder_scores_each_pair_independently_of_the_batch(names: list[str], tmp_path: Path) -> None:
    classifier = CrossEncoderClassifier(sequence_classifier(tmp_path, names), batch_size=4)
    labels = LabelSet.of(*_KINDS)
    together = classifier.logits(["a cat", "a very long text about " * 20, "owl"], labels)
    alone = [classifier.logits([text], labels)[0] for text in ("a cat", "a very long text about " * 20, "owl")]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.std() > 0


def test_a_model_that_is_no_cross_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has the labels sad, glad; give a model with a label 'entailment'"):
        CrossEncoderClassifier(sequence_classifier(tmp_path, ["sad", "glad"]))
    with pytest.raises(CheckpointError, match="holds no cross-encoder that can be loaded"):
        CrossEncoderClassifier(str(tmp_path / "nowhere"))


def test_evaluated_texts_among_the_examples_are_counted_and_refused(tiny_model: str) -> None:
    comparison = BaselineComparison([ANIMALS], [TRAIN], max_rows=60)
    with pytest.raises(TrainingError, match=r"6 of the 60 evaluated texts of animals are training examples"):
        next(comparison.scores([tiny_model], baselines=False, cross_encoder=None, shots=2, seeds=1))


def write(folder: Path) -> Path:
    rows = {
        "text": list(TEXTS),
        "labels": [_KINDS[label] for (label,) in ANIMALS.targets],
        "split": ["train"] * 30 + ["test"] * 30,
    }
    pq.write_table(pa.table(rows), folder / "animals.parquet")
    return folder / "animals.parquet"


def test_the_evaluate_command_writes_scores_and_a_figure(
    tiny_label_cached_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = str(write(tmp_path)), tmp_path / "out"
    options = ["--baselines", "--shots", "11", "--seeds", "2", "--out", str(out)]
    assert main(["evaluate", "--data", data, "--model", tiny_label_cached_model, *options]) == 0
    scores = json.loads((out / "scores.json").read_text())
    assert [(each["shots"], each["seed"]) for each in scores] == [(0, 0)] * 2 + [(11, 0)] * 4 + [(11, 1)] * 4
    assert [each["contender"].split(" ")[0] for each in scores[:6]] == [
        tiny_label_cached_model,
        "similarity",
        tiny_label_cached_model,
        f"{tiny_label_cached_model},",
        "logistic",
        "regression",
    ]
    assert (out / "quality.png").read_bytes().startswith(b"\x89PNG")
    captured = capsys.readouterr()
    assert "animals: 3 of 3 labels have fewer than 11 texts: cat (10), dog (10), owl (10)" in captured.err
    assert "texts/s" in captured.out


def test_a_model_that_takes_no_examples_is_left_out_with_them(
    tiny_model: str, caplog: pytest.LogCaptureFixture
) -> None:
    comparison = BaselineComparison([TEST], [TRAIN], max_rows=5)
    scores = list(comparison.scores([tiny_model], baselines=False, cross_encoder=None, shots=1, seeds=1))
    assert [(each.contender, each.shots) for each in scores] == [(tiny_model, 0), (tiny_model, 1)]
    assert "examples in the label set: not compared on animals: the tokenizer has no token '<<EXAMPLE>>'" in caplog.text


def test_the_evaluate_command_logs_each_contender_in_mlflow_and_prints_json(
    registry: Registry, tiny_label_cached_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(write(tmp_path)), "--model", tiny_label_cached_model, "--baselines", "--json"]
    assert main(["evaluate", *options, "--experiment", "mail", "--registry", registry.uri]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    client = MlflowClient(registry.uri)
    experiment = client.get_experiment_by_name("mail")
    runs = {run.data.params["contender"]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {score["contender"] for score in scores}
    for each in scores:
        run = runs[each["contender"]]
        assert run.info.status == "FINISHED"
        assert run.data.metrics["macro_f1/animals"] == pytest.approx(each["macro_f1"])
        assert run.data.metrics["texts_per_s"] == pytest.approx(each["texts_per_s"])
        assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"scores.json", "quality.png"}


def test_the_calibrate_command_writes_a_label_set(tiny_model: str, tmp_path: Path) -> None:
    labels, out, picture = tmp_path / "animals.yaml", tmp_path / "calibrated.yaml", tmp_path / "picture.png"
    labels.write_text(yaml.safe_dump({"name": "animals", "labels": list(_KINDS)}))
    options = ["--out", str(out), "--model", tiny_model, "--picture", str(picture)]
    assert main(["calibrate", "--labels", str(labels), "--data", str(write(tmp_path)), *options]) == 0
    before, after = LabelSet.from_yaml(labels), LabelSet.from_yaml(out)
    assert after.names == before.names
    assert after.hash != before.hash
    assert after.bias is not None
    assert all(label.bias is not None for label in after.labels)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_calibration_notes_few_texts_and_labels_that_none_of_them_has(tiny_model: str) -> None:
    engine = Engine.from_pretrained(tiny_model)
    label_set = LabelSet.of(*_KINDS, "unicorn", name="animals")
    notes = calibrate(engine, label_set, ANIMALS, max_rows=60, seed=0).notes
    assert notes[0] == "fitted to 30 texts; with 100 or more the scores are more reliable"
    assert notes[1].startswith(f"none or all of the texts have 1 of {len(label_set)} labels (unicorn)")


def test_labels_that_the_label_set_lacks_are_refused(tiny_model: str) -> None:
    engine = Engine.from_pretrained(tiny_model)
    with pytest.raises(TrainingError, match=r"animals has 1 label\(s\) that 'pets' lacks: owl"):
        calibrate(engine, LabelSet.of("cat", "dog", name="pets"), ANIMALS, max_rows=60, seed=0)


def test_a_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_sets(write(tmp_path), "train") == [TRAIN]
