"""Tagging: the only step that loads a model. Writes every score of every label for every document."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from gliclass_spark.labels import LabelSet
from gliclass_spark.spark.delta.schema import KEY, TAG_FIELDS, TAGS
from gliclass_spark.spark.session import task_slots
from gliclass_spark.spark.worker.resource_profile import tagging_profile
from gliclass_spark.spark.worker.tag_columns import tag_columns
from gliclass_spark.spark.worker.usage_meter import Meter
from gliclass_spark.spark.worker.worker_settings import WorkerSettings

# Parts for each task slot: enough to spread uneven texts, few enough to fill the engine's batches.
_PARTS_PER_SLOT = 4
_CLASSIFIED = StructType([*TAGS.fields[:2], *TAG_FIELDS.fields])


def rows_without_scores(wanted: DataFrame, answers: DataFrame) -> DataFrame:
    """The rows of `wanted` (doc_id, content_hash) for whose text, as it is now, there is no answer."""
    same_text = F.col("w.content_hash").eqNullSafe(F.col("a.content_hash"))
    matching = (F.col(f"w.{KEY}") == F.col(f"a.{KEY}")) & same_text
    return wanted.alias("w").join(answers.alias("a"), matching, "left_anti")


def tag(
    contents: DataFrame, label_set: LabelSet, settings: WorkerSettings, run_id: str, meter: Meter | None = None
) -> DataFrame:
    """Rows of the `tags` table for `contents` (see `documents.with_content`), with the labels that thresholds give.

    A text that can't be scored becomes a row with an error. `exploration.decided` adds the exploration lane.
    """
    spark = contents.sparkSession
    context = getattr(spark, "_sc", None)
    question = context.broadcast(label_set.canonical_json) if context is not None else None
    spelled_out = None if question is not None else label_set.canonical_json
    arrow_schema = to_arrow_schema(_CLASSIFIED)

    def classify(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from gliclass_spark.spark.worker import scoring

        asked = str(question.value) if question is not None else str(spelled_out)
        for batch, results, report in scoring.classify(batches, _texts, asked, settings):
            if meter is not None:
                meter.add(report)
            kept = {name: batch.column(name) for name in _CLASSIFIED.names[:2]}
            columns = {**kept, **tag_columns(results, settings.model)}
            yield pa.RecordBatch.from_pydict(columns, schema=arrow_schema)

    parts = task_slots(spark) * _PARTS_PER_SLOT
    spread = contents.repartition(parts, "doc_id")
    classified = spread.mapInArrow(classify, _CLASSIFIED, profile=tagging_profile(spark))
    return classified.withColumns({"run_id": F.lit(run_id), "tagged_at": F.current_timestamp()})


def _texts(batch: pa.RecordBatch) -> list[bytes | None]:
    found: list[bytes | None] = batch.column("text").to_pylist()
    return found
