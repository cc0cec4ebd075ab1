"""Labels decided from the scores of `tags`, batch by batch."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql.pandas.types import to_arrow_schema

from gliclass_spark.feedback.exploration import decide, sampling_key
from gliclass_spark.labels import Label, LabelSet
from gliclass_spark.spark.delta.schema import EXPLORATION_FIELDS, TAGS
from gliclass_spark.spark.transforms.exploring import decide_batch

SCHEMA = to_arrow_schema(TAGS, timezone="UTC")
SEVERAL = LabelSet(labels=(Label(name="a", threshold=0.7), Label(name="ü"), Label(name="c", threshold=0.2)))
BEST = SEVERAL.model_copy(update={"top_k": 1, "threshold": 0.1})
SINGLE = LabelSet.of("a", "b", "c", multi_label=False)
MODEL = "d1" * 32


def rows(label_set: LabelSet, count: int) -> pa.RecordBatch:
    """Return `tags` rows without decisions; every fifth has an error."""
    random = np.random.default_rng(0)
    records = []
    for number in range(count):
        scores = random.dirichlet(np.ones(len(label_set))).astype(np.float32).tolist()
        failed = number % 5 == 4
        records.append(
            {
                "doc_id": f"doc-{number}",
                "content_hash": hashlib.sha256(b"%d" % number).hexdigest() if not failed else None,
                "label_set_hash": label_set.hash,
                "scores": [] if failed else list(zip(label_set.names, scores, strict=True)),
                "labels": ["left over"],
                "error": {"code": "empty_text", "message": "empty"} if failed else None,
                "model_digest": MODEL,
            }
        )
    batch = pa.RecordBatch.from_pylist(records, schema=SCHEMA)
    return batch.select([name for name in batch.schema.names if name not in EXPLORATION_FIELDS.names])


@pytest.mark.parametrize("label_set", [SEVERAL, BEST, SINGLE], ids=["several", "best", "single"])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_columns_match_the_decision_of_each_row(label_set: LabelSet, share: float) -> None:
    batch = rows(label_set, 60)
    decided = decide_batch(batch, label_set, share)
    decided.validate(full=True)
    assert decided.schema.field("propensities").type == SCHEMA.field("propensities").type
    assert decided.schema.field("labels").type == SCHEMA.field("labels").type
    for before, row in zip(batch.to_pylist(), decided.to_pylist(), strict=True):
        assert {name: row[name] for name in before if name != "labels"} == {
            name: before[name] for name in before if name != "labels"
        }
        if before["error"]:
            assert (row["labels"], row["explored"], row["propensities"]) == ([], None, None)
            continue
        names, scores = zip(*before["scores"], strict=True)
        key = sampling_key(before["doc_id"].encode(), before["content_hash"], label_set.hash, MODEL)
        expected = decide(np.array([scores], dtype=np.float32), [key], label_set, share)
        chosen = [name for name, action in zip(names, expected.chosen[0], strict=True) if action]
        assert row["labels"] == sorted(chosen, key=lambda name: -scores[names.index(name)])
        if share:
            assert row["explored"] == expected.explored[0]
            assert row["propensities"] == list(zip(names, expected.propensities[0].tolist(), strict=True))
        else:
            assert (row["explored"], row["propensities"]) == (None, None)


@given(st.permutations(range(20)), st.integers(0, 20))
@settings(deadline=None, max_examples=30)
def test_promise_4_a_decision_does_not_depend_on_order_or_batch(order: list[int], cut: int) -> None:
    batch = rows(SEVERAL, 20)
    expected = decide_batch(batch, SEVERAL, 0.5).to_pylist()
    shuffled = batch.take(pa.array(order))
    parts = [decide_batch(part, SEVERAL, 0.5).to_pylist() for part in (shuffled.slice(0, cut), shuffled.slice(cut))]
    assert [row for part in parts for row in part] == [expected[row] for row in order]


def test_the_order_of_scores_in_their_map_does_not_matter() -> None:
    batch = rows(SEVERAL, 4)
    reversed_rows = [{**row, "scores": row["scores"][::-1]} for row in batch.to_pylist()]
    reversed_batch = pa.RecordBatch.from_pylist(reversed_rows, schema=batch.schema)
    names = ["labels", "explored", "propensities"]
    expected = decide_batch(batch, SEVERAL, 0.5).select(names)
    assert decide_batch(reversed_batch, SEVERAL, 0.5).select(names) == expected


def test_a_document_whose_id_is_not_utf8_is_explored() -> None:
    batch = rows(SEVERAL, 1)
    ids = pa.array([b"\xff\xfe"], pa.binary()).cast(pa.string(), safe=False)
    decided = decide_batch(batch.set_column(0, "doc_id", ids), SEVERAL, 1.0)
    assert decided.column("explored").to_pylist() == [True]
