"""The filter job: every document that changed, or whose tags did, is decided about again. Loads no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.errors import ManifestError, TableError
from gliclass_spark.runs.manifest import Manifest, VersionRange
from gliclass_spark.spark.delta import change_feed, tables
from gliclass_spark.spark.delta.runs_table import last_success
from gliclass_spark.spark.jobs.decision_tables import current_rows, write_decisions
from gliclass_spark.spark.jobs.pipeline_run import (
    Job,
    PipelineRun,
    finish,
    job,
    outputs,
    prepare_decisions,
    settings_of,
)
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.transforms import filtering
from gliclass_spark.spark.transforms.rule_expressions import check_analysis, lenient_sql

_OUTCOMES = {"kept": filtering.kept, "rejected": filtering.rejected, "quarantined": filtering.quarantined}


def filter_step(run: PipelineRun) -> Manifest:
    """Decide by the reject rules: every document into `kept`, `rejected` or `quarantined`.

    Reads the documents and tags as the last tag job of this label set left them; documents that came
    since wait for the next one. Raises TableError if there was no such job.
    """
    spark, pipeline, lake = run.spark, run.pipeline, run.lake
    known = run.runs.recent()
    tagged_by = _last_tagging(run, known)
    read, tags_read = tagged_by.inputs["source"], tagged_by.outputs["tags"]
    documents = run.documents.read(read.until)
    pipeline.rules.check(documents.columns, pipeline.label_set.names, run.title)
    tags = lake.address("tags").read(spark, tags_read.until).where(F.col("label_set_hash") == pipeline.label_set.hash)
    with lenient_sql(spark):
        tagged = _tagged(run, documents, tags)
        check_analysis(tagged, pipeline.rules, run.title)
        decided = filtering.decide(tagged, pipeline.rules, run.run_id)
    specs = {name: tables.decisions_spec(chosen(decided)) for name, chosen in _OUTCOMES.items()}
    for name, spec in specs.items():
        tables.check(spark, lake.path(name), spec.schema)
    # Where the source stands is not among them: which table was read is told by the table's id.
    columns = pipeline.source.model_dump(include={"id", "text", "columns"})
    settings = settings_of(**columns, label_set=pipeline.label_set.hash, rules=pipeline.rules.hash)
    earlier = last_success(known, "filter", run_id=run.run_id, settings_hash=settings)
    if earlier is not None:
        return earlier
    with job(run, "filter", settings, known, model_digest=tagged_by.model_digest) as work, lenient_sql(spark):
        prepare_decisions(work, specs)
        with work.timed("read"):
            scope = _scope(work, documents, tags, read, tags_read)
            tagged = _tagged(run, scope.documents, scope.tags)
            decided = work.hold(filtering.decide(tagged, pipeline.rules, run.run_id))
            rows_in = decided.count()
            waiting = scope.documents.count() - rows_in
        if waiting and read.until is not None:
            raise TableError(
                f"{waiting} of {rows_in + waiting} documents have no tags for label set {pipeline.label_set.name!r} as "
                "they are now, though they were tagged: someone changed the tags; run the tag job again with --full"
            )
        with work.timed("write"):
            write_decisions(work, {name: chosen(decided) for name, chosen in _OUTCOMES.items()}, scope.keys)
        with work.timed("check"):
            found, held = _read_back(run, scope)
            expected = documents.count() if read.until is not None else rows_in
        if held != expected:
            raise ManifestError(
                f"run {run.run_id!r}, filter: expected {expected} documents in {', '.join(_OUTCOMES)}, found {held}; "
                "another writer changed these tables: run filter again with --full"
            )
        done = work.facts(
            rows_in=rows_in,
            waiting=waiting,
            documents=held,
            full_scan=scope.keys is None,
            inputs={
                "source": change_feed.since(work.since("source"), read),
                "tags": change_feed.since(work.since("tags"), tags_read),
            },
            outputs=outputs(run, _OUTCOMES),
            **found,
        )
        return finish(work, done)


@dataclass(frozen=True)
class _Scope:
    """What has to be decided about: documents, their tags, and the keys that a decision falls on.

    keys: those of the documents, and of what is gone; None if the scope is everything.
    """

    documents: DataFrame
    tags: DataFrame
    keys: DataFrame | None


def _last_tagging(run: PipelineRun, known: list[Manifest]) -> Manifest:
    label_set = run.pipeline.label_set
    found = last_success(known, "tag", label_set_hash=label_set.hash)
    if found is None:
        raise TableError(
            f"{run.lake.path('tags')}: no run has tagged with label set {label_set.name!r} as it is now "
            f"(hash {label_set.hash[:12]}); run the tag job first"
        )
    return found


def _tagged(run: PipelineRun, documents: DataFrame, tags: DataFrame) -> DataFrame:
    contents = with_content(documents, run.pipeline.source.text)
    return filtering.with_tags(documents, contents, filtering.tags_of_label_set(tags, run.pipeline.label_set))


def _scope(work: Job, documents: DataFrame, tags: DataFrame, read: VersionRange, tags_read: VersionRange) -> _Scope:
    """What changed since the base: the documents, or their tags."""
    run = work.run
    source = run.documents.delta if read.until is not None else None
    if source is None:
        return _Scope(documents, tags, None)
    same_question = F.col("label_set_hash") == run.pipeline.label_set.hash
    changed = work.changes("source", source, read, run.documents.select_columns)
    retagged = work.changes(
        "tags",
        run.lake.address("tags"),
        tags_read,
        lambda frame, _: frame.where(same_question),
    )
    if changed.full_scan or retagged.full_scan:
        return _Scope(documents, tags, None)
    keys = work.hold(changed.keys().union(retagged.keys()).distinct())
    return _Scope(
        change_feed.rows_of(keys, changed, documents),
        change_feed.rows_of(keys, retagged, tags),
        keys,
    )


def _read_back(run: PipelineRun, scope: _Scope) -> tuple[dict[str, Any], int]:
    """What became of the documents in scope, as the tables have it now, and how many documents they hold in all."""
    found = current_rows(run, _OUTCOMES, scope.keys).groupBy("table", "reason", "in_scope").count().collect()
    here = [row for row in found if row["in_scope"]]
    facts = {
        "kept": sum(row["count"] for row in here if row["table"] == "kept"),
        "rejected": {row["reason"]: row["count"] for row in here if row["table"] == "rejected"},
        "quarantined": sum(row["count"] for row in here if row["table"] == "quarantined"),
    }
    return facts, sum(row["count"] for row in found)
