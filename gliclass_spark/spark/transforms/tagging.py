"""Tagging: every score of every label for every document. The only transformation that loads a model."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from gliclass_spark.checkpoints.files import CALIBRATION
from gliclass_spark.labels import LabelSet, calibrated
from gliclass_spark.spark.delta.schema import KEY, TAG_FIELDS, TAGS
from gliclass_spark.spark.delta.writes import current_time
from gliclass_spark.spark.session import broadcast_text, task_slots
from gliclass_spark.spark.source_files import SOURCE_ERROR
from gliclass_spark.spark.worker.resource_profile import tagging_profile
from gliclass_spark.spark.worker.tag_columns import tag_columns
from gliclass_spark.spark.worker.usage_meter import Meter
from gliclass_spark.spark.worker.worker_settings import WorkerSettings

# Enough partitions to balance texts of uneven length, few enough to fill the engine's batches. A worker that scores
# fewer texts takes longer to start than to score them.
_PARTITIONS_PER_SLOT, PARTITION_TEXTS = 4, 32
_ID_COLUMNS = TAGS.names[:2]
_CLASSIFIED = StructType([*TAGS.fields[:2], *TAG_FIELDS.fields])


def rows_without_scores(contents: DataFrame, tags: DataFrame) -> DataFrame:
    """Return the rows of `contents` (doc_id, content_hash) whose current text has no row in `tags`."""
    same_text = F.col("c.content_hash").eqNullSafe(F.col("t.content_hash"))
    matching = (F.col(f"c.{KEY}") == F.col(f"t.{KEY}")) & same_text
    return contents.alias("c").join(tags.alias("t"), matching, "left_anti")


def tag(
    contents: DataFrame,
    count: int,
    label_set: LabelSet,
    settings: WorkerSettings,
    run_id: str,
    meter: Meter | None = None,
    partition_texts: int = PARTITION_TEXTS,
) -> DataFrame:
    """Return the `tags` rows of the `count` rows of `contents` (see `source.with_content`), labelled by thresholds.

    Temperatures, biases and thresholds that the label set does not state are those that come with the model.

    A text that can't be scored, or whose record the source could not read, gives a row with an error. The columns of
    exploration are null; see `exploring.decide_labels`. The workers report to `meter`, if there is one.
    partition_texts: the fewest texts for which another partition, and so another worker, is worth its start.
    """
    spark = contents.sparkSession
    label_set_hash = label_set.hash  # whichever model's calibration is used: `model_digest` covers it
    label_set_json = broadcast_text(spark, calibrated(label_set, settings.model.folder / CALIBRATION).canonical_json)
    arrow_schema = to_arrow_schema(_CLASSIFIED)

    def classify(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from gliclass_spark.spark.worker import scoring

        for batch, results, report in scoring.classify(batches, _texts, label_set_json(), settings):
            if meter is not None:
                meter.add(report)
            columns = {name: batch.column(name) for name in _ID_COLUMNS} | tag_columns(results, settings.model)
            columns["label_set_hash"] = pa.repeat(label_set_hash, len(batch))
            columns["error"] = _with_source_errors(batch, columns["error"])
            yield pa.RecordBatch.from_pydict(columns, schema=arrow_schema)

    partitions = max(1, min(task_slots(spark) * _PARTITIONS_PER_SLOT, ceil(count / partition_texts)))
    partitioned = contents.repartition(partitions, KEY)
    classified = partitioned.mapInArrow(classify, _CLASSIFIED, profile=tagging_profile(spark))
    columns = {"run_id": F.lit(run_id), "tagged_at": current_time()}
    nulls = {
        field.name: F.lit(None).cast(field.dataType)
        for field in TAGS
        if field.name not in columns and field.name not in _CLASSIFIED.names
    }
    return classified.withColumns(columns | nulls).select(*TAGS.names)


def with_equal_texts(rows: DataFrame, texts: DataFrame, documents: DataFrame) -> DataFrame:
    """Return a row for each of `documents`, from the rows of `texts`: one document of each text_id."""
    scored = rows.drop("content_hash").join(texts.select(KEY, "text_id"), KEY).drop(KEY)
    return documents.join(scored, "text_id").select(*TAGS.names)


def _texts(batch: pa.RecordBatch) -> list[bytes | None]:
    """Return the texts; null for a row that the source could not read, so that it is not scored."""
    texts: list[bytes | None] = batch.column("text").to_pylist()
    if SOURCE_ERROR not in batch.schema.names:
        return texts
    return [None if error else text for text, error in zip(texts, batch.column(SOURCE_ERROR).to_pylist(), strict=True)]


def _with_source_errors(batch: pa.RecordBatch, errors: pa.Array) -> pa.Array:
    """Return the errors, each replaced by that of the source, if the row has one."""
    if SOURCE_ERROR not in batch.schema.names:
        return errors
    pairs = zip(batch.column(SOURCE_ERROR).to_pylist(), errors.to_pylist(), strict=True)
    return pa.array([source_error or error for source_error, error in pairs], errors.type)
