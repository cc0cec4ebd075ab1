"""Tagging: the only step that loads a model. Writes every score of every label for every document."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from gliclass_spark.labels import LabelSet
from gliclass_spark.model.checkpoint import ModelRef
from gliclass_spark.spark import worker
from gliclass_spark.spark.meter import Meter
from gliclass_spark.spark.schema import TAG_FIELDS, TAGS
from gliclass_spark.spark.session import task_slots
from gliclass_spark.spark.worker import TaskReport, WorkerSettings

# Parts for each task slot: enough to spread uneven texts, few enough to fill the engine's batches.
_PARTS_PER_SLOT = 4
_CLASSIFIED = StructType([*TAGS.fields[:2], *TAG_FIELDS.fields])


def with_content(documents: DataFrame, text: str) -> DataFrame:
    """doc_id, content_hash (SHA-256 of the text's bytes, null for null) and the text as bytes."""
    content = F.col(f"`{text}`").cast("binary")
    return documents.select("doc_id", F.sha2(content, 256).alias("content_hash"), content.alias("text"))


def untagged(contents: DataFrame, tags: DataFrame, label_set: LabelSet, model: ModelRef) -> DataFrame:
    """The contents that these tags do not cover: new or changed, or asked of another model."""
    covered = tags.where((F.col("label_set_hash") == label_set.hash) & (F.col("model_digest") == model.digest))
    return contents.alias("c").join(
        covered.alias("t"),
        (F.col("c.doc_id") == F.col("t.doc_id")) & F.col("c.content_hash").eqNullSafe(F.col("t.content_hash")),
        "left_anti",
    )


def tag(
    contents: DataFrame, label_set: LabelSet, settings: WorkerSettings, run_id: str, meter: Meter | None = None
) -> DataFrame:
    """Rows of the `tags` table for `contents` (see `with_content`).

    A text that can't be scored becomes a row with an error.
    """
    spark = contents.sparkSession
    context = getattr(spark, "_sc", None)
    question = context.broadcast(label_set.canonical_json) if context is not None else None
    spelled_out = None if question is not None else label_set.canonical_json
    arrow_schema = to_arrow_schema(_CLASSIFIED)

    def classify(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        asked = str(question.value) if question is not None else str(spelled_out)
        for batch in batches:
            texts = batch.column("text").to_pylist()
            results, loads = worker.classify(texts, asked, settings)
            if meter is not None:
                meter.add(TaskReport(results.usage, loads))
            columns = zip(batch.column("doc_id"), batch.column("content_hash"), results.classifications(), strict=True)
            yield pa.RecordBatch.from_pylist(
                [
                    {
                        "doc_id": doc_id.as_py(),
                        "content_hash": content_hash.as_py(),
                        **worker.tag_record(found, results.label_set, settings.model),
                    }
                    for doc_id, content_hash, found in columns
                ],
                schema=arrow_schema,
            )

    parts = task_slots(spark) * _PARTS_PER_SLOT
    classified = contents.repartition(parts, "doc_id").mapInArrow(classify, _CLASSIFIED)
    return classified.withColumns({"run_id": F.lit(run_id), "tagged_at": F.current_timestamp()})
