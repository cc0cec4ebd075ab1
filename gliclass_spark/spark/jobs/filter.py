"""The filter job: decisions about documents that changed, or whose tags changed. Loads no model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import StructType

from gliclass_spark.errors import ManifestError, TableError
from gliclass_spark.runs.freshness import last_success
from gliclass_spark.runs.manifest import Manifest, VersionRange
from gliclass_spark.runs.settings import filter_settings
from gliclass_spark.spark.delta.change_feed import Changes
from gliclass_spark.spark.delta.column_names import helper
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.jobs.decision_counts import OutcomeCounts, by_table
from gliclass_spark.spark.jobs.decision_tables import DecisionTables, check_schemas
from gliclass_spark.spark.jobs.job_run import Job, claimed_job, finished_job
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.run_date import date_settings
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.transforms import filtering
from gliclass_spark.spark.transforms.filtering import OUTCOMES
from gliclass_spark.spark.transforms.rule_expressions import check_analysis, lenient_sql

# Whether a key is in the changes of the source, and in those of the tags.
_IN_SOURCE, _IN_TAGS = helper("in_source"), helper("in_tags")


@dataclass(frozen=True)
class _Scope:
    """The documents to decide about.

    documents: those in scope. tagged: those that have tags, with them. keys: doc_id of the documents in scope, and of
    deleted ones; None if all documents are in scope. only_new: whether none of them had tags when the base decided: a
    document without tags has no decision.
    """

    documents: DataFrame
    tagged: DataFrame
    keys: DataFrame | None
    only_new: bool = False


@dataclass(frozen=True)
class _Input:
    """What a filter job reads: the versions that the last tag job left. Used within `lenient_sql`."""

    run: PipelineRun
    tagged_by: Manifest
    documents: DataFrame
    tags: DataFrame

    @property
    def source_range(self) -> VersionRange:
        return self.tagged_by.inputs["source"]

    @property
    def tags_range(self) -> VersionRange:
        return self.tagged_by.outputs["tags"]

    @cached_property
    def tagged(self) -> DataFrame:
        """All documents with their tags."""
        return _with_tags(self.run, self.documents, self.tags)

    @cached_property
    def schemas(self) -> dict[str, StructType]:
        """The columns of the tables that the job writes."""
        decided = filtering.decide(self.tagged, self.run.pipeline.rules, self.run.run_id, **date_settings(self.run, []))
        return {name: filtering.with_outcome(decided, name).schema for name in OUTCOMES}


def filter_step(run: PipelineRun) -> Manifest:
    """Write every document into `kept`, `rejected` or `quarantined`, by the reject rules.

    Reads the versions of documents and tags that the last tag job left; later documents wait for the next
    one. Raises TableError if there was no such job, or if it had another label set.
    """
    run = run.in_own_session()
    spark, pipeline, lake = run.spark, run.pipeline, run.lake
    recent = run.runs.recent()
    dated = date_settings(run, recent)
    checked = _input(run, recent)
    pipeline.rules.check(checked.documents.columns, pipeline.label_set.names, run.title)
    with lenient_sql(spark):
        check_analysis(checked.tagged, pipeline.rules, run.title, **dated)
        check_schemas(run, checked.schemas)
    settings = filter_settings(pipeline, **dated)
    if (finished := finished_job(run, "filter", settings, recent)) is not None:
        return finished

    with (
        claimed_job(run, "filter", settings, recent, model_digest=checked.tagged_by.model_digest) as job,
        lenient_sql(spark),
    ):
        job.fence(OUTCOMES)
        # The tag job may have run again before this one claimed.
        source = checked if last_success(job.earlier, "tag") == checked.tagged_by else _input(run, job.earlier)
        source_range, tags_range = source.source_range, source.tags_range
        tables = DecisionTables(job, source.schemas)
        tables.prepare()
        with job.timed("read"):
            scope = _read_scope(job, source)
            decided = job.cache(filtering.decide(scope.tagged, pipeline.rules, run.run_id, **dated))
            decided_counts = _count_outcomes(decided)
            decided_count = sum(decided_counts.values())
            waiting_count = scope.documents.count() - decided_count
        if waiting_count and source_range.until is not None:
            raise TableError(
                f"{waiting_count} of {decided_count + waiting_count} documents have no tags for label set "
                f"{pipeline.label_set.name!r} as they are now, though they were tagged: someone changed the tags; run "
                "the tag job again with --full"
            )
        with job.timed("write"):
            decisions = {name: filtering.with_outcome(decided, name) for name in OUTCOMES}
            tables.write(decisions, decided_counts, scope.keys, only_new=scope.only_new)
        with job.timed("check"):
            stored_counts, table_rows = tables.count_stored(decided_counts, scope.keys)
            document_count = sum(table_rows.values())
            version = source_range.until
            expected_count = run.documents.count(version) if version is not None else decided_count
        if document_count != expected_count:
            raise ManifestError(
                f"run {run.run_id!r}, filter: expected {expected_count} documents in {', '.join(OUTCOMES)}, found "
                f"{document_count}; another writer changed these tables: run filter again with --full"
            )
        stored = by_table(stored_counts)
        read = {"source": (run.documents.delta, source_range), "tags": (lake.table("tags"), tags_range)}
        return job.succeed(
            rows_in=decided_count,
            waiting=waiting_count,
            documents=document_count,
            kept=stored.get("kept", 0),
            rejected={reason: n for (table, reason), n in stored_counts.items() if table == "rejected"},
            quarantined=stored.get("quarantined", 0),
            table_rows=table_rows,
            columns_hash=tables.columns_hash,
            outputs=lake.latest(spark, OUTCOMES),
            **job.versions_read(scope.keys is None, **read),
        )


def _input(run: PipelineRun, recent: list[Manifest]) -> _Input:
    """Return what the last successful tag job left. Raises TableError if there is none, or none of the label set.

    A job of another label set that came later has written its decisions: this run is behind it.
    """
    label_set = run.pipeline.label_set
    manifest = last_success(recent, "tag")
    if manifest is None or manifest.label_set_hash != label_set.hash:
        raise TableError(
            f"{run.lake.table('tags').name}: the last tag job did not use label set {label_set.name!r} as it is now "
            f"(hash {label_set.hash[:12]}); run the tag job first"
        )
    documents = run.documents.read(manifest.inputs["source"].until)
    tags = run.lake.table("tags").read(run.spark, manifest.outputs["tags"].until)
    return _Input(run, manifest, documents, tags.where(F.col("label_set_hash") == label_set.hash))


def _with_tags(run: PipelineRun, documents: DataFrame, tags: DataFrame) -> DataFrame:
    contents = with_content(documents, run.pipeline.source.text)
    return filtering.with_tags(documents, contents, filtering.tags_of_label_set(tags, run.pipeline.label_set))


def _read_scope(job: Job, read: _Input) -> _Scope:
    """Return the documents that changed since the base, or whose tags did; all of them if a full scan is needed."""
    run = job.run
    source = run.documents.delta if read.source_range.until is not None else None
    if source is None or job.base is None:
        return _Scope(read.documents, read.tagged, None)
    of_label_set = F.col("label_set_hash") == run.pipeline.label_set.hash
    changed = job.changes("source", source, read.source_range, run.documents.select_columns)
    tags = run.lake.table("tags")
    retagged = job.changes("tags", tags, read.tags_range, lambda rows, _: rows.where(of_label_set))
    if changed.full_scan or retagged.full_scan:
        return _Scope(read.documents, read.tagged, None)
    keys = [_marked(changed.keys(), in_source=True), _marked(retagged.keys(), in_tags=True)]
    for name in OUTCOMES if job.contested else ():
        keys.append(_marked(job.rows_of_unfinished_runs(name)))
    of_key = reduce(DataFrame.union, keys).groupBy(KEY)
    marked = job.cache(of_key.agg(*(F.bool_or(mark).alias(mark) for mark in (_IN_SOURCE, _IN_TAGS))))
    [missing] = marked.agg(*(F.count_if(~F.col(mark)).alias(mark) for mark in (_IN_SOURCE, _IN_TAGS))).collect()
    documents = _rows_in_scope(changed, read.documents, marked.where(~F.col(_IN_SOURCE)), missing[_IN_SOURCE])
    in_scope = _rows_in_scope(retagged, read.tags, marked.where(~F.col(_IN_TAGS)), missing[_IN_TAGS])
    only_new = changed.only_new and retagged.only_new
    return _Scope(documents, _with_tags(run, documents, in_scope), marked.select(KEY), only_new)


def _marked(keys: DataFrame, *, in_source: bool = False, in_tags: bool = False) -> DataFrame:
    """Return the keys, marked with whether they are in the changes of the source, and in those of the tags."""
    return keys.select(KEY, F.lit(in_source).alias(_IN_SOURCE), F.lit(in_tags).alias(_IN_TAGS))


def _rows_in_scope(changes: Changes, snapshot: DataFrame, unchanged: DataFrame, unchanged_count: int) -> DataFrame:
    """Return the rows of the changes, and those of the keys in scope that did not change from the table's snapshot.

    The snapshot is not read if there are none: the cost of a run follows its new rows.
    """
    if not unchanged_count:
        return changes.rows
    return changes.rows.unionByName(snapshot.join(F.broadcast(unchanged.select(KEY)), KEY, "left_semi"))


def _count_outcomes(decided: DataFrame) -> OutcomeCounts:
    """Return the number of documents of each table, and for `rejected` of each reason."""
    rows = decided.groupBy(filtering.outcome().alias("table"), "reason").count().collect()
    return {(row["table"], row["reason"]): row["count"] for row in rows}
