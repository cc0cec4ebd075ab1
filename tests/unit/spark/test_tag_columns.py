"""Tag columns are equal to tag records, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql.pandas.types import to_arrow_schema

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.inference.results import EMPTY_TEXT, OUT_OF_MEMORY, Results, TextError
from gliclass_spark.labels import Label, LabelSet
from gliclass_spark.spark.delta.schema import TAG_FIELDS
from gliclass_spark.spark.worker.scoring import tag_record
from gliclass_spark.spark.worker.tag_columns import tag_columns

SCHEMA = to_arrow_schema(TAG_FIELDS)
MODEL = ModelRef("some/model", Path("/no/such/folder"), "d1" * 32)
SETS = {
    "several": LabelSet(
        name="topics",
        labels=(Label(name="a", threshold=0.5), Label(name="b"), Label(name="ü", threshold=0.0), Label(name="d")),
    ),
    "single": LabelSet.of("x", "y", "z", multi_label=False),
    "one": LabelSet.of("only"),
    "two at most": LabelSet(threshold=0.1, top_k=2, labels=tuple(Label(name=name) for name in "abcd")),
    # 0.7 is no float32: a score next to it must compare as in Python.
    "threshold": LabelSet(threshold=0.7, labels=tuple(Label(name=name) for name in "abc")),
}
ERRORS: dict[str, list[TextError | None]] = {
    "nothing": [],
    "one text": [None],
    "one error": [EMPTY_TEXT],
    "errors": [EMPTY_TEXT, OUT_OF_MEMORY],
    "mixed": [None, EMPTY_TEXT, None, None, OUT_OF_MEMORY],
    "many": [None] * 300,
}


def results(label_set: LabelSet, errors: list[TextError | None]) -> Results:
    random = np.random.default_rng(0)
    logits = random.normal(size=(len(errors), len(label_set))).astype(np.float32)
    logits[random.random(logits.shape) < 0.2] = 0.0  # ties, and scores on the threshold
    logits[random.random(logits.shape) < 0.2] = np.float32(np.log(0.7 / 0.3))
    failed = np.array([error is not None for error in errors], dtype=bool)
    logits[failed] = np.nan
    counts = random.integers(1, 1000, len(errors)).astype(np.int32)
    return Results(label_set, logits, counts, np.where(failed, 0, 1).astype(np.int32), tuple(errors))


def as_batch(scored: Results) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(tag_columns(scored, MODEL), schema=SCHEMA)


@pytest.mark.parametrize("label_set", SETS.values(), ids=SETS)
@pytest.mark.parametrize(
    "errors",
    [
        [],
        [None],
        [EMPTY_TEXT],
        [EMPTY_TEXT, OUT_OF_MEMORY],
        [None, EMPTY_TEXT, None, None, OUT_OF_MEMORY],
        [None] * 300,
    ],
    ids=["nothing", "one text", "one error", "errors", "mixed", "many"],
)
def test_columns_are_equal_to_records(label_set: LabelSet, errors: list[TextError | None]) -> None:
    scored = results(label_set, errors)
    records = [tag_record(item, label_set, MODEL) for item in scored.classifications()]
    expected = pa.RecordBatch.from_pylist(records, schema=SCHEMA)
    built = as_batch(scored)
    built.validate(full=True)
    assert built.schema == expected.schema
    assert built.to_pylist() == expected.to_pylist()


def test_labels_are_sorted_by_score_and_ties_by_label_set_order() -> None:
    logits = np.array([[0.0, 1.0, 0.0, 2.0]], dtype=np.float32)
    ones = np.ones(1, dtype=np.int32)
    [row] = as_batch(Results(SETS["several"], logits, ones, ones, (None,))).to_pylist()
    assert row["labels"] == ["d", "b", "a", "ü"]
    assert [label for label, _ in row["scores"]] == ["a", "b", "ü", "d"]
