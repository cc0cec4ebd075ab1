"""Input of the tag job: the version of the source, and its documents that have no scores."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.errors import ConfigError
from gliclass_spark.runs.freshness import last_success
from gliclass_spark.runs.manifest import Manifest, VersionRange
from gliclass_spark.spark.delta.change_feed import Changes, full_scan
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.delta.table_ref import TableRef
from gliclass_spark.spark.jobs.job_run import Job
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.source_files import SOURCE_ERROR
from gliclass_spark.spark.transforms.tagging import rows_without_scores

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TagInput:
    """The documents that a tag job handles.

    version: the version of the source. documents: all of them at that version. contents: doc_id,
    content_hash and text of the changed ones (see `with_content`). pending: those without scores (see
    `pending_documents`). text_count: the number of their distinct texts. deleted: doc_id of documents that left the
    source. tags_exist: whether the table `tags` existed before.
    """

    version: VersionRange
    documents: DataFrame
    contents: DataFrame
    pending: DataFrame
    deleted: DataFrame
    full_scan: bool
    changed_count: int
    pending_count: int
    text_count: int
    deleted_count: int
    tags_exist: bool


def source_range(
    run: PipelineRun, source: TableRef | None, recent: list[Manifest], *, contested: bool = False
) -> VersionRange:
    """Return the version of the source at `run.until`, but none before the last one read: tags don't go back.

    contested: whether a run that did not succeed may have read a later version; then the latest one is read. A
    table of the catalog that has no versions is read as it is: a scheduler, which knows no table's format, sets
    `run.until` for every one. Raises ConfigError if `run.until` is set for files of another format than Delta.
    """
    if source is None:
        if run.until is not None and run.pipeline.source.table is None:
            raise ConfigError(
                f"{run.documents.name} keeps no versions: it can't be read as it was at {run.until}; use a Delta table"
            )
        if run.until is not None:
            logger.warning("%s keeps no versions: it is read as it is, not as of %s", run.documents.name, run.until)
        return VersionRange()
    requested = source.latest(run.spark, None if contested else run.until)
    last = last_success(recent, "tag")
    if last is None or run.until is None:
        return requested
    last_read, commit = last.inputs["source"], last.commits.get("source")
    is_earlier = last_read.until is not None and requested.until is not None and requested.until < last_read.until
    continued = replace(requested, until=last_read.until)
    if is_earlier and source.discontinuity(run.spark, last_read, commit, continued) is None:
        return continued
    return requested


def read_input(job: Job, source: TableRef | None, model: ModelRef) -> TagInput:
    """Return the documents that changed since the base. Raises TableError if an id is null or repeats."""
    run = job.run
    with job.timed("read"):
        version = source_range(run, source, job.earlier, contested=_is_overtaken(job))
        documents = run.documents.read(version.until)
        if source is None:
            changes = full_scan(documents)
        else:
            changes = job.changes("source", source, version, run.documents.select_columns)
            changes = _with_rows_of_unfinished_runs(job, documents, changes)
        if changes.full_scan:
            run.documents.check_ids(documents)
        else:
            _check_changed_ids(run, documents, changes)
        contents = with_content(changes.rows, run.pipeline.source.text)
        pending = job.cache(pending_documents(run, contents, model, [*job.earlier, job.manifest]))
        tags_exist = run.lake.exists(run.spark, "tags")
        deleted = _deleted_documents(run, changes)
        deleted_count = deleted.count() if tags_exist else 0
        # Until there are tags, every changed document is pending.
        pending_count, text_count = count_pending(pending)
        changed_count = changes.rows.count() if tags_exist else pending_count
        counts = changed_count, pending_count, text_count, deleted_count
    return TagInput(version, documents, contents, pending, deleted, changes.full_scan, *counts, tags_exist)


def live_tags(run: PipelineRun) -> DataFrame:
    """Return the rows of `tags` for the pipeline's label set, without tombstones."""
    tags = run.lake.read(run.spark, "tags")
    return tags.where((F.col("label_set_hash") == run.pipeline.label_set.hash) & F.col("deleted_at").isNull())


def pending_documents(run: PipelineRun, contents: DataFrame, model: ModelRef, recent: list[Manifest]) -> DataFrame:
    """Return doc_id, content_hash and text_id of the documents to score; `run.retag` decides which tags are current.

    text_id: equal for documents with equal texts, which the model scores once. Documents that the source could not read
    have errors of their own.
    """
    is_text = F.col(SOURCE_ERROR).isNull() if SOURCE_ERROR in contents.columns else F.lit(True)
    text_id = F.coalesce(F.when(is_text, F.col("content_hash")), KEY)
    documents = contents.select(KEY, "content_hash", text_id.alias("text_id"))
    if not run.lake.exists(run.spark, "tags"):
        return documents
    current: dict[str, Column] = {
        "changed": F.col("model_digest") == model.digest,
        "none": F.lit(True),
        "all": _tagged_by_unfinished_attempt(run, recent),
    }
    return rows_without_scores(documents, live_tags(run).where(current[run.retag]))


def count_pending(pending: DataFrame) -> tuple[int, int]:
    """Return the number of pending documents, and of their distinct texts."""
    counts = pending.agg(F.count("*").alias("documents"), F.count_distinct("text_id").alias("texts"))
    [row] = counts.collect()
    return row["documents"], row["texts"]


def _tagged_by_unfinished_attempt(run: PipelineRun, recent: list[Manifest]) -> Column:
    """Return whether a row was written by this run, in an attempt that followed its last success."""
    attempts = [row for row in recent if (row.job, row.run_id) == ("tag", run.run_id)]
    last = last_success(attempts, "tag")
    starts = [row.started_at for row in attempts if last is None or row.sequence > last.sequence]
    if not starts:
        return F.lit(False)
    return (F.col("run_id") == run.run_id) & (F.col("tagged_at") >= F.lit(min(starts)))


def _is_overtaken(job: Job) -> bool:
    """Return whether another run claimed the job since the last success, and may have read a later version."""
    last = last_success(job.earlier, "tag")
    since = [row for row in job.earlier if row.job == "tag" and (last is None or row.sequence > last.sequence)]
    return any(row.run_id != job.run.run_id for row in since)


def _with_rows_of_unfinished_runs(job: Job, documents: DataFrame, changes: Changes) -> Changes:
    """Return the changes, with the documents whose tags were written by runs that did not succeed."""
    if changes.full_scan or not job.contested or not job.run.lake.exists(job.run.spark, "tags"):
        return changes
    written = job.rows_of_unfinished_runs("tags").distinct()
    keys = job.cache(written.join(changes.keys(), KEY, "left_anti"))
    rows = documents.join(F.broadcast(keys), KEY, "left_semi")
    deleted = keys.join(rows.select(KEY), KEY, "left_anti")
    return replace(changes, rows=changes.rows.unionByName(rows), deleted=changes.deleted.union(deleted))


def _deleted_documents(run: PipelineRun, changes: Changes) -> DataFrame:
    """Return doc_id of the documents that left the source: by the feed, or in a full scan by the tags."""
    if not changes.full_scan or not run.lake.exists(run.spark, "tags"):
        return changes.deleted
    tagged = run.lake.read(run.spark, "tags").where(F.col("deleted_at").isNull()).select(KEY).distinct()
    return tagged.join(changes.rows.select(KEY), KEY, "left_anti")


def _check_changed_ids(run: PipelineRun, documents: DataFrame, changes: Changes) -> None:
    """Check the ids of changed documents among all documents, which are read for their ids alone."""
    changed_ids = changes.rows.select(KEY)
    current_ids = documents.select(KEY).join(F.broadcast(changed_ids), KEY, "left_semi")
    run.documents.check_ids(current_ids.union(changed_ids.where(F.col(KEY).isNull())))
