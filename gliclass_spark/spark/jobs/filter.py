"""The filter job: decisions about documents that changed, or whose tags changed. Loads no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import StructType

from gliclass_spark.errors import ManifestError, TableError
from gliclass_spark.runs.freshness import last_success
from gliclass_spark.runs.manifest import Manifest, VersionRange
from gliclass_spark.runs.settings import filter_settings
from gliclass_spark.spark.delta.change_feed import rows_for_keys
from gliclass_spark.spark.jobs.decision_tables import DecisionTables, check_schemas, count_by, current_rows
from gliclass_spark.spark.jobs.job_run import Job, claimed_job, finished_job
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.run_date import date_settings
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.transforms import filtering
from gliclass_spark.spark.transforms.filtering import OUTCOMES
from gliclass_spark.spark.transforms.rule_expressions import check_analysis, lenient_sql


@dataclass(frozen=True)
class _Scope:
    """The documents to decide about, with their tags.

    keys: doc_id of the documents in scope, and of deleted ones; None if all documents are in scope. only_new: whether
    none of them had tags when the base decided: a document without tags has no decision.
    """

    documents: DataFrame
    tags: DataFrame
    keys: DataFrame | None
    only_new: bool = False


@dataclass(frozen=True)
class _Input:
    """What a filter job reads: the versions that the last tag job left."""

    tagged_by: Manifest
    documents: DataFrame
    tags: DataFrame

    @property
    def source_range(self) -> VersionRange:
        return self.tagged_by.inputs["source"]

    @property
    def tags_range(self) -> VersionRange:
        return self.tagged_by.outputs["tags"]


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
        tagged = _with_tags(run, checked.documents, checked.tags)
        check_analysis(tagged, pipeline.rules, run.title, **dated)
        check_schemas(run, _schemas(filtering.decide(tagged, pipeline.rules, run.run_id, **dated)))
    settings = filter_settings(pipeline, **dated)
    if (finished := finished_job(run, "filter", settings, recent)) is not None:
        return finished

    with (
        claimed_job(run, "filter", settings, recent, model_digest=checked.tagged_by.model_digest) as job,
        lenient_sql(spark),
    ):
        job.fence(OUTCOMES)
        source = _input(run, job.earlier)
        source_range, tags_range = source.source_range, source.tags_range
        tagged = _with_tags(run, source.documents, source.tags)
        decided = filtering.decide(tagged, pipeline.rules, run.run_id, **dated)
        tables = DecisionTables(job, _schemas(decided))
        tables.prepare()
        with job.timed("read"):
            scope = _read_scope(job, source)
            tagged = _with_tags(run, scope.documents, scope.tags)
            decided = job.cache(filtering.decide(tagged, pipeline.rules, run.run_id, **dated))
            decided_counts = count_by(decided.select(filtering.outcome().alias("table")), "table")
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
            counts, document_count = _count_outcomes(run, scope)
            expected_count = source.documents.count() if source_range.until is not None else decided_count
        if document_count != expected_count:
            raise ManifestError(
                f"run {run.run_id!r}, filter: expected {expected_count} documents in {', '.join(OUTCOMES)}, found "
                f"{document_count}; another writer changed these tables: run filter again with --full"
            )
        read = {"source": (run.documents.delta, source_range), "tags": (lake.table("tags"), tags_range)}
        return job.succeed(
            rows_in=decided_count,
            waiting=waiting_count,
            documents=document_count,
            columns_hash=tables.columns_hash,
            outputs=lake.latest(spark, OUTCOMES),
            **job.versions_read(scope.keys is None, **read),
            **counts,
        )


def _schemas(decided: DataFrame) -> dict[str, StructType]:
    return {name: filtering.with_outcome(decided, name).schema for name in OUTCOMES}


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
    return _Input(manifest, documents, tags.where(F.col("label_set_hash") == label_set.hash))


def _with_tags(run: PipelineRun, documents: DataFrame, tags: DataFrame) -> DataFrame:
    contents = with_content(documents, run.pipeline.source.text)
    return filtering.with_tags(documents, contents, filtering.tags_of_label_set(tags, run.pipeline.label_set))


def _read_scope(job: Job, read: _Input) -> _Scope:
    """Return the documents that changed since the base, or whose tags did; all of them if a full scan is needed."""
    run = job.run
    source = run.documents.delta if read.source_range.until is not None else None
    if source is None or job.base is None:
        return _Scope(read.documents, read.tags, None)
    of_label_set = F.col("label_set_hash") == run.pipeline.label_set.hash
    changed = job.changes("source", source, read.source_range, run.documents.select_columns)
    tags = run.lake.table("tags")
    retagged = job.changes("tags", tags, read.tags_range, lambda rows, _: rows.where(of_label_set))
    if changed.full_scan or retagged.full_scan:
        return _Scope(read.documents, read.tags, None)
    keys = changed.keys().union(retagged.keys())
    for name in OUTCOMES if job.contested else ():
        keys = keys.union(job.rows_of_unfinished_runs(name))
    keys = job.cache(keys.distinct())
    documents, in_scope = rows_for_keys(keys, changed, read.documents), rows_for_keys(keys, retagged, read.tags)
    return _Scope(documents, in_scope, keys, changed.only_new and retagged.only_new)


def _count_outcomes(run: PipelineRun, scope: _Scope) -> tuple[dict[str, Any], int]:
    """Return the manifest's counts of the documents in scope, and how many documents the tables hold in all."""
    rows = current_rows(run, OUTCOMES, scope.keys).groupBy("table", "reason", "in_scope").count().collect()
    in_scope = [row for row in rows if row["in_scope"]]
    counts = {
        "kept": sum(row["count"] for row in in_scope if row["table"] == "kept"),
        "rejected": {row["reason"]: row["count"] for row in in_scope if row["table"] == "rejected"},
        "quarantined": sum(row["count"] for row in in_scope if row["table"] == "quarantined"),
    }
    return counts, sum(row["count"] for row in rows)
