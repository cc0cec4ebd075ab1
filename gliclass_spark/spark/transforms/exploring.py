"""Labels decided anew from the scores that stand in `tags`, with the exploration lane. Asks no model."""

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
from gliclass_spark.spark.delta.schema import KEY, LANE_FIELDS
from gliclass_spark.spark.worker.tag_columns import label_lists, label_maps

_TYPES = {field.name: field.type for field in to_arrow_schema(LANE_FIELDS)}
_HASHES = ("content_hash", "label_set_hash", "model_digest")
_DECISION = "struct(labels, explored, map_entries(propensities))"


def decided(rows: DataFrame, label_set: LabelSet, share: float) -> DataFrame:
    """Rows of `tags`, all of this label set, with the labels, `explored` and `propensities` that follow from their
    scores and the share of exploration.
    """
    kept = rows.drop(*LANE_FIELDS.names)

    def decide(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield decide_batch(batch, label_set, share)

    return kept.mapInArrow(decide, StructType([*kept.schema.fields, *LANE_FIELDS.fields]))


def corrected(rows: DataFrame, label_set: LabelSet, share: float) -> DataFrame:
    """Those of the rows of `tags` that `decided` changes, as it leaves them, and decided now."""
    before = rows.withColumn("_before", F.expr(_DECISION))
    changed = ~F.expr(_DECISION).eqNullSafe(F.col("_before"))
    after = decided(before, label_set, share).where(changed).drop("_before")
    return after.withColumn("tagged_at", F.current_timestamp())


def decide_batch(batch: pa.RecordBatch, label_set: LabelSet, share: float) -> pa.RecordBatch:
    """The rows with their labels anew, and the columns of `schema.LANE_FIELDS` at the end; null without a share."""
    scores, scored = _scores(batch.column("scores"), label_set)
    keys = _keys(batch.select([KEY, *_HASHES]).filter(pa.array(scored)))
    found = exploration.decide(scores[scored], keys, label_set, share)
    chosen = np.zeros_like(scores, dtype=bool)
    chosen[scored] = found.chosen
    columns = {name: batch.column(name) for name in batch.schema.names}
    columns["labels"] = label_lists(chosen, scores, label_set)
    columns |= {name: pa.nulls(len(batch), _TYPES[name]) for name in LANE_FIELDS.names}
    if share:
        explored = np.zeros(len(batch), dtype=bool)
        explored[scored] = found.explored
        columns["explored"] = pa.array(explored, mask=~scored)
        nowhere = pa.array(~scored)
        columns["propensities"] = label_maps(found.propensities, scored, label_set, _TYPES["propensities"], nowhere)
    return pa.RecordBatch.from_pydict(columns)


def _scores(maps: pa.MapArray, label_set: LabelSet) -> tuple[FloatArray, Mask]:
    """(rows, labels) float32, and (rows,): which rows have scores; those without have zeros."""
    offsets = maps.offsets.to_numpy()
    entries = slice(offsets[0], offsets[-1])
    rows = np.repeat(np.arange(len(maps)), np.diff(offsets))
    places = pc.index_in(maps.keys[entries], value_set=pa.array(label_set.names)).to_numpy()
    scores = np.zeros((len(maps), len(label_set)), dtype=np.float32)
    scores[rows, places] = maps.items[entries].to_numpy()
    return scores, np.diff(offsets) > 0


def _keys(batch: pa.RecordBatch) -> list[bytes]:
    # As bytes: an id is any string of Spark's, and need not be valid UTF-8.
    ids = batch.column(KEY).cast(pa.binary()).to_pylist()
    hashes = (batch.column(name).to_pylist() for name in _HASHES)
    return [exploration.key(*parts) for parts in zip(ids, *hashes, strict=True)]
