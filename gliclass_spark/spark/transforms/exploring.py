"""Exploration of tagged rows: labels decided from the scores in `tags`. Loads no model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from gliclass_spark.feedback import exploration
from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import FloatArray, Mask
from gliclass_spark.spark.delta.column_names import helper
from gliclass_spark.spark.delta.schema import EXPLORATION_FIELDS, KEY
from gliclass_spark.spark.delta.writes import current_time
from gliclass_spark.spark.worker.tag_columns import label_lists, label_maps

_TYPES = {field.name: field.type for field in to_arrow_schema(EXPLORATION_FIELDS)}
_HASHES = ("content_hash", "label_set_hash", "model_digest")
_DECISION = "struct(labels, explored, map_entries(propensities))"
_BEFORE = helper("before")


def decide_labels(rows: DataFrame, label_set: LabelSet, share: float) -> DataFrame:
    """Return rows of `tags` with the labels, `explored` and `propensities` that their scores give.

    All rows must be of `label_set`. `share` in [0, 1] is the share of explored documents.
    """
    tags = rows.drop(*EXPLORATION_FIELDS.names)

    def decide(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield decide_batch(batch, label_set, share)

    return tags.mapInArrow(decide, StructType([*tags.schema.fields, *EXPLORATION_FIELDS.fields]))


def changed_decisions(rows: DataFrame, label_set: LabelSet, share: float) -> DataFrame:
    """Return the rows of `tags` that `decide_labels` changes, with the new decision and the current time."""
    before = rows.withColumn(_BEFORE, F.expr(_DECISION))
    changed = ~F.expr(_DECISION).eqNullSafe(F.col(_BEFORE))
    after = decide_labels(before, label_set, share).where(changed).drop(_BEFORE)
    return after.withColumn("tagged_at", current_time())


def decide_batch(batch: pa.RecordBatch, label_set: LabelSet, share: float) -> pa.RecordBatch:
    """Return the batch with the labels that its scores give, followed by the columns of `schema.EXPLORATION_FIELDS`.

    These are null if `share` is 0, and for rows without scores.
    """
    scores, scored = _scores(batch.column("scores"), label_set)
    keys = _sampling_keys(batch.select([KEY, *_HASHES]).filter(pa.array(scored)))
    decisions = exploration.decide(scores[scored], keys, label_set, share)
    chosen = np.zeros_like(scores, dtype=bool)
    chosen[scored] = decisions.chosen
    columns = {name: batch.column(name) for name in batch.schema.names}
    columns["labels"] = label_lists(chosen, scores, label_set)
    columns |= {name: pa.nulls(len(batch), _TYPES[name]) for name in EXPLORATION_FIELDS.names}
    if share:
        explored = np.zeros(len(batch), dtype=bool)
        explored[scored] = decisions.explored
        columns["explored"] = pa.array(explored, mask=~scored)
        map_type, null = _TYPES["propensities"], pa.array(~scored)
        columns["propensities"] = label_maps(decisions.propensities, scored, label_set, map_type, null)
    return pa.RecordBatch.from_pydict(columns)


def _scores(maps: pa.MapArray, label_set: LabelSet) -> tuple[FloatArray, Mask]:
    """Return scores (rows, labels), float32, and which rows have scores (rows,); the others are zero."""
    offsets = maps.offsets.to_numpy()
    entries = slice(offsets[0], offsets[-1])
    rows = np.repeat(np.arange(len(maps)), np.diff(offsets))
    columns = pc.index_in(maps.keys[entries], value_set=pa.array(label_set.names)).to_numpy()
    scores = np.zeros((len(maps), len(label_set)), dtype=np.float32)
    scores[rows, columns] = maps.items[entries].to_numpy()
    return scores, np.diff(offsets) > 0


def _sampling_keys(batch: pa.RecordBatch) -> list[bytes]:
    # As bytes: a Spark string need not be valid UTF-8.
    ids = batch.column(KEY).cast(pa.binary()).to_pylist()
    hashes = (batch.column(name).to_pylist() for name in _HASHES)
    return [exploration.sampling_key(*parts) for parts in zip(ids, *hashes, strict=True)]
