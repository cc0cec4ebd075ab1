"""The filter job: decisions about documents that changed, or whose tags changed. Loads no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.errors import ManifestError, TableError
from gliclass_spark.runs.manifest import Manifest, VersionRange
from gliclass_spark.spark.delta.change_feed import range_since, rows_for_keys
from gliclass_spark.spark.delta.runs_table import last_success
from gliclass_spark.spark.delta.schema import decisions_spec
from gliclass_spark.spark.jobs.decision_tables import check_tables, current_rows, ensure_tables, write_decisions
from gliclass_spark.spark.jobs.job_run import Job, claimed_job, settings_hash
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.transforms import filtering
from gliclass_spark.spark.transforms.rule_expressions import check_analysis, lenient_sql

_OUTCOMES = {"kept": filtering.kept, "rejected": filtering.rejected, "quarantined": filtering.quarantined}


@dataclass(frozen=True)
class _Scope:
    """The documents to decide about, with their tags.

    keys: doc_id of the documents in scope, and of deleted ones; None if all documents are in scope.
    """

    documents: DataFrame
    tags: DataFrame
    keys: DataFrame | None


def filter_step(run: PipelineRun) -> Manifest:
    """Write every document into `kept`, `rejected` or `quarantined`, by the reject rules.

    Reads the versions of documents and tags that the last tag job of this label set left; later documents
    wait for the next one. Raises TableError if there was no such job.
    """
    spark, pipeline, lake = run.spark, run.pipeline, run.lake
    recent = run.runs.recent()
    tagged_by = _last_tag_job(run, recent)
    source_range, tags_range = tagged_by.inputs["source"], tagged_by.outputs["tags"]
    documents = run.documents.read(source_range.until)
    pipeline.rules.check(documents.columns, pipeline.label_set.names, run.title)
    tags = lake.table("tags").read(spark, tags_range.until).where(F.col("label_set_hash") == pipeline.label_set.hash)
    with lenient_sql(spark):
        tagged = _with_tags(run, documents, tags)
        check_analysis(tagged, pipeline.rules, run.title)
        decided = filtering.decide(tagged, pipeline.rules, run.run_id)
    specs = {name: decisions_spec(select(decided).schema) for name, select in _OUTCOMES.items()}
    check_tables(run, specs)
    # The source's path is no setting: the id of its table is compared instead.
    columns = pipeline.source.model_dump(include={"id", "text", "columns"})
    settings = settings_hash(**columns, label_set=pipeline.label_set.hash, rules=pipeline.rules.hash)
    finished = last_success(recent, "filter", run_id=run.run_id, settings_hash=settings)
    if finished is not None:
        return finished

    with (
        claimed_job(run, "filter", settings, recent, model_digest=tagged_by.model_digest) as job,
        lenient_sql(spark),
    ):
        ensure_tables(job, specs)
        with job.timed("read"):
            scope = _read_scope(job, documents, tags, source_range, tags_range)
            tagged = _with_tags(run, scope.documents, scope.tags)
            decided = job.cache(filtering.decide(tagged, pipeline.rules, run.run_id))
            decided_count = decided.count()
            waiting_count = scope.documents.count() - decided_count
        if waiting_count and source_range.until is not None:
            raise TableError(
                f"{waiting_count} of {decided_count + waiting_count} documents have no tags for label set "
                f"{pipeline.label_set.name!r} as they are now, though they were tagged: someone changed the tags; run "
                "the tag job again with --full"
            )
        with job.timed("write"):
            write_decisions(job, {name: select(decided) for name, select in _OUTCOMES.items()}, scope.keys)
        with job.timed("check"):
            counts, document_count = _count_outcomes(run, scope)
            expected_count = documents.count() if source_range.until is not None else decided_count
        if document_count != expected_count:
            raise ManifestError(
                f"run {run.run_id!r}, filter: expected {expected_count} documents in {', '.join(_OUTCOMES)}, found "
                f"{document_count}; another writer changed these tables: run filter again with --full"
            )
        return job.succeed(
            rows_in=decided_count,
            waiting=waiting_count,
            documents=document_count,
            full_scan=scope.keys is None,
            inputs={
                "source": range_since(job.base_range("source"), source_range),
                "tags": range_since(job.base_range("tags"), tags_range),
            },
            outputs=lake.latest(spark, _OUTCOMES),
            **counts,
        )


def _last_tag_job(run: PipelineRun, recent: list[Manifest]) -> Manifest:
    """Return the last successful tag job of the pipeline's label set. Raises TableError if there is none."""
    label_set = run.pipeline.label_set
    manifest = last_success(recent, "tag", label_set_hash=label_set.hash)
    if manifest is None:
        raise TableError(
            f"{run.lake.path('tags')}: no run has tagged with label set {label_set.name!r} as it is now "
            f"(hash {label_set.hash[:12]}); run the tag job first"
        )
    return manifest


def _with_tags(run: PipelineRun, documents: DataFrame, tags: DataFrame) -> DataFrame:
    contents = with_content(documents, run.pipeline.source.text)
    return filtering.with_tags(documents, contents, filtering.tags_of_label_set(tags, run.pipeline.label_set))


def _read_scope(
    job: Job, documents: DataFrame, tags: DataFrame, source_range: VersionRange, tags_range: VersionRange
) -> _Scope:
    """Return the documents that changed since the base, or whose tags did; all of them if a full scan is needed."""
    run = job.run
    source = run.documents.delta if source_range.until is not None else None
    if source is None:
        return _Scope(documents, tags, None)
    of_label_set = F.col("label_set_hash") == run.pipeline.label_set.hash
    changed = job.changes("source", source, source_range, run.documents.select_columns)
    retagged = job.changes("tags", run.lake.table("tags"), tags_range, lambda rows, _: rows.where(of_label_set))
    if changed.full_scan or retagged.full_scan:
        return _Scope(documents, tags, None)
    keys = job.cache(changed.keys().union(retagged.keys()).distinct())
    return _Scope(rows_for_keys(keys, changed, documents), rows_for_keys(keys, retagged, tags), keys)


def _count_outcomes(run: PipelineRun, scope: _Scope) -> tuple[dict[str, Any], int]:
    """Return the manifest's counts of the documents in scope, and how many documents the tables hold in all."""
    rows = current_rows(run, _OUTCOMES, scope.keys).groupBy("table", "reason", "in_scope").count().collect()
    in_scope = [row for row in rows if row["in_scope"]]
    counts = {
        "kept": sum(row["count"] for row in in_scope if row["table"] == "kept"),
        "rejected": {row["reason"]: row["count"] for row in in_scope if row["table"] == "rejected"},
        "quarantined": sum(row["count"] for row in in_scope if row["table"] == "quarantined"),
    }
    return counts, sum(row["count"] for row in rows)
