"""Input of the tag job: the version of the source, and its documents that have no scores."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame
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
from gliclass_spark.spark.jobs.tag_steps.pending import PendingCounts, count_pending, pending_documents
from gliclass_spark.spark.source import with_content

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TagInput:
    """The documents that a tag job handles.

    version: the version of the source. contents: doc_id, content_hash and text of the changed ones (see
    `with_content`). pending: those without scores (see `pending_documents`), and their counts. deleted: doc_id of
    documents that left the source. tags: the rows of the table `tags` before this job writes to it; None if there was
    no table.
    """

    version: VersionRange
    contents: DataFrame
    pending: DataFrame
    counts: PendingCounts
    deleted: DataFrame
    tags: DataFrame | None
    full_scan: bool
    changed_count: int
    deleted_count: int


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
        tags = _tags_before(run)
        pending = job.cache(pending_documents(run, changes, tags, model, [*job.earlier, job.manifest]))
        counts = count_pending(pending)
        changes = replace(changes, deleted=_deleted_documents(changes, tags))
        # Until there are tags, every changed document is pending.
        changed_count, deleted_count = changes.count() if tags is not None else (counts.documents, 0)
        if changes.full_scan:
            run.documents.check_ids(documents)
        elif (
            tags is None
            or job.contested
            or not changes.only_new
            or counts.live_rows
            or counts.documents < changed_count
        ):
            _check_changed_ids(run, documents, changes)
        # Else each id was inserted once, and `tags`, which has a row of every document of the base, does not have it.
    return TagInput(
        version=version,
        contents=with_content(changes.rows, run.pipeline.source.text),
        pending=pending,
        counts=counts,
        deleted=changes.deleted,
        tags=tags,
        full_scan=changes.full_scan,
        changed_count=changed_count,
        deleted_count=deleted_count,
    )


def live_tags(run: PipelineRun) -> DataFrame:
    """Return the rows of `tags` for the pipeline's label set, without tombstones."""
    tags = run.lake.read(run.spark, "tags")
    return tags.where((F.col("label_set_hash") == run.pipeline.label_set.hash) & F.col("deleted_at").isNull())


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
    return replace(changes, rows=changes.rows.unionByName(rows), deleted=changes.deleted.union(deleted), counts=None)


def _tags_before(run: PipelineRun) -> DataFrame | None:
    """Return the rows of `tags` at its latest version; None if there is no table.

    At that version: once the job has written to the table, Spark would plan, and compute, all anew that it has cached
    of the latest one.
    """
    table = run.lake.table("tags")
    return table.read(run.spark, table.latest(run.spark).until) if table.exists(run.spark) else None


def _deleted_documents(changes: Changes, tags: DataFrame | None) -> DataFrame:
    """Return doc_id of the documents that left the source: by the feed, or in a full scan by the tags."""
    if not changes.full_scan or tags is None:
        return changes.deleted
    tagged = tags.where(F.col("deleted_at").isNull()).select(KEY).distinct()
    return tagged.join(changes.rows.select(KEY), KEY, "left_anti")


def _check_changed_ids(run: PipelineRun, documents: DataFrame, changes: Changes) -> None:
    """Check the ids of changed documents among all documents, which are read for their ids alone."""
    changed_ids = changes.rows.select(KEY)
    current_ids = documents.select(KEY).join(F.broadcast(changed_ids), KEY, "left_semi")
    run.documents.check_ids(current_ids.union(changed_ids.where(F.col(KEY).isNull())))
