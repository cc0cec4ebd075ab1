"""Pending documents of the tag job: those whose current text has no scores, and what `tags` holds of them."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.runs.freshness import last_success
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.delta.change_feed import Changes
from gliclass_spark.spark.delta.column_names import helper
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.source_files import SOURCE_ERROR

# Of the document's row in `tags`, null without one: whether it is no tombstone, whether its scores are current, and the
# text that they are of.
_IS_LIVE, _IS_CURRENT, _TAGGED_HASH = helper("is_live"), helper("is_current"), helper("tagged_hash")


@dataclass(frozen=True)
class PendingCounts:
    """The numbers of pending documents, of their distinct texts, of their rows in `tags`, and of live ones among these.

    A live row is no tombstone.
    """

    documents: int
    texts: int
    rows: int
    live_rows: int


def pending_documents(
    run: PipelineRun, changes: Changes, tags: DataFrame | None, model: ModelRef, recent: list[Manifest]
) -> DataFrame:
    """Return doc_id, content_hash and text_id of the documents to score; `run.retag` decides which tags are current.

    text_id: equal for documents with equal texts, which the model scores once. Documents that the source could not read
    have errors of their own. tags: the table's rows; None if there is no table. Another column is for `count_pending`.
    """
    contents = with_content(changes.rows, run.pipeline.source.text)
    is_text = F.col(SOURCE_ERROR).isNull() if SOURCE_ERROR in contents.columns else F.lit(True)
    text_id = F.coalesce(F.when(is_text, F.col("content_hash")), KEY)
    documents = contents.select(KEY, "content_hash", text_id.alias("text_id"))
    if tags is None:
        return documents.withColumn(_IS_LIVE, F.lit(None).cast("boolean"))
    if not changes.full_scan:  # so that Spark reads the table without a shuffle
        tags = tags.join(F.broadcast(changes.rows.select(KEY)), KEY, "left_semi")
    current: dict[str, Column] = {
        "changed": F.col("model_digest") == model.digest,
        "none": F.lit(True),
        "all": _tagged_by_unfinished_attempt(run, recent),
    }
    is_live = F.col("deleted_at").isNull()
    rows = tags.where(F.col("label_set_hash") == run.pipeline.label_set.hash).select(
        KEY,
        F.col("content_hash").alias(_TAGGED_HASH),
        is_live.alias(_IS_LIVE),
        (is_live & current[run.retag]).alias(_IS_CURRENT),
    )
    is_scored = F.col(_IS_CURRENT) & F.col("content_hash").eqNullSafe(F.col(_TAGGED_HASH))
    pending = documents.join(rows, KEY, "left").where(~F.coalesce(is_scored, F.lit(False)))
    return pending.select(*documents.columns, _IS_LIVE)


def count_pending(pending: DataFrame) -> PendingCounts:
    """Return the counts of the result of `pending_documents`."""
    counts = pending.agg(
        F.count("*").alias("documents"),
        F.count_distinct("text_id").alias("texts"),
        F.count(_IS_LIVE).alias("rows"),
        F.count_if(_IS_LIVE).alias("live_rows"),
    )
    [row] = counts.collect()
    return PendingCounts(**row.asDict())


def _tagged_by_unfinished_attempt(run: PipelineRun, recent: list[Manifest]) -> Column:
    """Return whether a row was written by this run, in an attempt that followed its last success."""
    attempts = [row for row in recent if (row.job, row.run_id) == ("tag", run.run_id)]
    last = last_success(attempts, "tag")
    starts = [row.started_at for row in attempts if last is None or row.sequence > last.sequence]
    if not starts:
        return F.lit(False)
    return (F.col("run_id") == run.run_id) & (F.col("tagged_at") >= F.lit(min(starts)))
