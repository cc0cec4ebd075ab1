"""Labelled texts as examples of a label set, and what they change on others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from gliclass_spark.cli.app import main
from gliclass_spark.errors import LabelSetError, TrainingError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import Example, LabelSet
from gliclass_spark.training.data.labelled_text import LabelledSet, few_shot, in_label_set
from gliclass_spark.training.evaluation.evaluate import score
from gliclass_spark.training.evaluation.examples_in_label_set import add_examples, label_set_examples

KINDS = ("cat", "dog", "owl")
TEXTS = tuple(f"a {kind} number {number}" for number in range(20) for kind in KINDS)
ANIMALS = LabelledSet("animals", KINDS, TEXTS, ((0,), (1,), (2,)) * 20)
# In another order, with a label that no text has.
LABEL_SET = LabelSet.of("unicorn", "owl", "dog", "cat", name="animals")
DRAWN = {"name": "tiny", "shots": 3, "max_rows": 20, "seed": 1}


@pytest.fixture(scope="module")
def engine(tiny_bi_encoder: str) -> Engine:
    return Engine.from_pretrained(tiny_bi_encoder)


def write(path: Path, labelled: LabelledSet) -> str:
    labels = [[labelled.labels[label] for label in labels] for labels in labelled.targets]
    pq.write_table(pa.table({"text": labelled.texts, "labels": labels}), path)
    return str(path)


def test_examples_hold_any_text() -> None:
    labelled = LabelledSet("x", ("a", "b"), ("one\x00two\tthree", "long " * 10_000, "\x00"), ((0, 1), (1,), (0,)))
    first, second = label_set_examples(labelled)
    assert (first.text, first.labels) == ("one two three", ("a", "b"))
    assert (len(second.text), second.labels) == (10_000, ("b",))


def test_drawn_texts_become_examples_and_others_are_scored_without_and_with_them(engine: Engine) -> None:
    before = LABEL_SET.replace(examples=[Example(text="an earlier one", labels=("owl",))])
    added = add_examples(engine, before, ANIMALS, **DRAWN)
    animals = in_label_set(ANIMALS, LABEL_SET)
    drawn = few_shot(animals, 3, 1)
    assert added.label_set == LABEL_SET.replace(examples=label_set_examples(drawn))
    assert [sum(name in each.labels for each in added.label_set.examples) for name in LABEL_SET.names] == [0, 3, 3, 3]
    without, with_examples = added.scores
    assert (without.rows, without.shots, with_examples.rows, with_examples.shots) == (20, 0, 20, 3)
    every_other = ANIMALS.rows(row for row, text in enumerate(TEXTS) if text not in drawn.texts)
    every = add_examples(engine, before, ANIMALS, **{**DRAWN, "max_rows": 1000}).scores
    for scored, label_set in zip(every, (LABEL_SET, added.label_set), strict=True):
        expected = score(engine, in_label_set(every_other, LABEL_SET), name="tiny", label_set=label_set)
        assert (scored.rows, scored.per_label) == (51, expected.per_label)


def test_texts_with_two_answers_are_no_examples_and_are_not_scored(engine: Engine) -> None:
    doubtful = LabelledSet("animals", KINDS, (*TEXTS, "A cat  number 0"), (*ANIMALS.targets, (1,)))
    added = add_examples(engine, LABEL_SET, doubtful, **{**DRAWN, "shots": 19, "max_rows": 1000})
    left_over = set(TEXTS) - {each.text for each in added.label_set.examples}
    assert {text for text in left_over if "cat" in text} == {"a cat number 0"}
    assert added.scores[0].rows == len(left_over) - 1 == 2


def test_a_label_that_the_set_lacks_or_examples_of_one_label_alone_are_refused(engine: Engine) -> None:
    with pytest.raises(TrainingError, match=r"animals has 1 label\(s\) that 'pets' lacks: owl; label the texts"):
        add_examples(engine, LabelSet.of("cat", "dog", name="pets"), ANIMALS, **DRAWN)
    with pytest.raises(TrainingError, match=r"examples of 1 label"):
        add_examples(engine, LABEL_SET, ANIMALS.rows(range(0, 60, 3)), **DRAWN)


def test_a_model_that_takes_no_examples_refuses_them(tiny_model: str) -> None:
    with pytest.raises(LabelSetError, match="the tokenizer has no token '<<EXAMPLE>>'"):
        add_examples(Engine.from_pretrained(tiny_model), LABEL_SET, ANIMALS, **DRAWN)


def test_the_examples_command_writes_a_label_set(
    tiny_bi_encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, data, out = tmp_path / "animals.yaml", write(tmp_path / "animals.parquet", ANIMALS), tmp_path / "out.yaml"
    labels.write_text(yaml.safe_dump({"name": "animals", "labels": [*KINDS, "unicorn"]}))
    command = ["examples", "--labels", str(labels), "--data", data, "--out", str(out), "--model", tiny_bi_encoder]
    assert main([*command, "--shots", "4"]) == 0
    captured = capsys.readouterr()
    assert "4 examples a label" in captured.out
    assert captured.out.splitlines()[-1] == f"written: {out}"
    written = LabelSet.from_yaml(out)
    assert (written.names, len(written.examples)) == ((*KINDS, "unicorn"), 12)
    assert main([*command, "--shots", "20"]) == 0
    assert "all texts are examples: none is left to evaluate" in capsys.readouterr().out
    out.unlink()
    assert main([*command, "--shots", "1"]) == 2
    assert "this model needs 2 examples" in capsys.readouterr().err
    assert not out.exists()
