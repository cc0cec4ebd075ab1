"""The route job: kept documents that changed, into the tables of their routes. Loads no model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.errors import ManifestError, TableError
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.delta.change_feed import range_since
from gliclass_spark.spark.delta.runs_table import last_success
from gliclass_spark.spark.delta.schema import KEY, decisions_spec
from gliclass_spark.spark.delta.writes import delete_rows
from gliclass_spark.spark.jobs.decision_tables import check_tables, current_rows, ensure_tables, write_decisions
from gliclass_spark.spark.jobs.job_run import Job, claimed_job, settings_hash
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.transforms import routing
from gliclass_spark.spark.transforms.rule_expressions import check_analysis, lenient_sql


def route_step(run: PipelineRun) -> Manifest:
    """Write every kept document into the tables of its routes, and remove it from those that it left.

    Reads the version of `kept` that the last filter job of these rules left. Raises TableError if there was none.
    """
    spark, pipeline, lake = run.spark, run.pipeline, run.lake
    rules = pipeline.rules
    recent = run.runs.recent()
    filtered_by = _last_filter_job(run, recent)
    kept_range = filtered_by.outputs["kept"]
    kept = lake.table("kept").read(spark, kept_range.until)
    with lenient_sql(spark):
        check_analysis(kept, rules, run.title)
        routed = routing.route(kept, rules, run.run_id)
        spec = decisions_spec(routing.to_destination(routed, rules.default_route).schema)
    specs = dict.fromkeys(rules.destinations, spec)
    check_tables(run, specs)
    settings = settings_hash(label_set=pipeline.label_set.hash, rules=rules.hash)
    finished = last_success(recent, "route", run_id=run.run_id, settings_hash=settings)
    if finished is not None:
        return finished

    # The claim records the destinations, so that a later run empties those that the rules no longer name, even
    # if this run is killed.
    no_rows = dict.fromkeys(rules.destinations, 0)
    with (
        claimed_job(run, "route", settings, recent, model_digest=filtered_by.model_digest, routed=no_rows) as job,
        lenient_sql(spark),
    ):
        ensure_tables(job, specs)
        with job.timed("read"):
            changes = job.changes("kept", lake.table("kept"), kept_range, lambda rows, _: rows)
            keys = None if changes.full_scan else changes.keys()
            routed = job.cache(routing.route(changes.rows, rules, run.run_id))
            changed_count = routed.count()
            expected = {**no_rows, **_count_by(routed.select(F.explode("routes").alias("route")), "route")}
        with job.timed("write"):
            write_decisions(job, {name: routing.to_destination(routed, name) for name in rules.destinations}, keys)
            _empty_former_destinations(job)
        with job.timed("check"):
            rows = current_rows(run, rules.destinations, keys).where("in_scope")
            counts = {**no_rows, **_count_by(rows, "table")}
            document_count = rows.select(KEY).distinct().count() if len(counts) > 1 else sum(counts.values())
        if counts != expected:
            raise ManifestError(
                f"run {run.run_id!r}, route: expected rows by destination {expected}, found {counts}; "
                "another writer changed these tables: run route again with --full"
            )
        return job.succeed(
            rows_in=changed_count,
            documents=kept.count(),
            full_scan=changes.full_scan,
            routed=counts,
            routed_documents=document_count,
            inputs={"kept": range_since(job.base_range("kept"), kept_range)},
            outputs=lake.latest(spark, rules.destinations),
        )


def _last_filter_job(run: PipelineRun, recent: list[Manifest]) -> Manifest:
    """Return the last successful filter job of the pipeline's label set and rules. Raises TableError if none."""
    label_set_hash, rules_hash = run.pipeline.label_set.hash, run.pipeline.rules.hash
    manifest = last_success(recent, "filter", label_set_hash=label_set_hash, rules_hash=rules_hash)
    if manifest is None:
        raise TableError(
            f"{run.lake.path('kept')}: no run has filtered by this label set and these rules (hash "
            f"{rules_hash[:12]}); run the filter job first"
        )
    return manifest


def _empty_former_destinations(job: Job) -> None:
    """Delete the rows of tables that an earlier run routed to and that the rules no longer name."""
    run = job.run
    for name in sorted(run.runs.destinations() - set(run.pipeline.rules.destinations)):
        if run.lake.exists(run.spark, name) and not run.lake.read(run.spark, name).isEmpty():
            job.notes.append(f"{name} is no longer a destination; its rows were taken out")
            job.commit(name, partial(delete_rows, run.spark))


def _count_by(rows: DataFrame, column: str) -> Mapping[str, int]:
    """Return how many rows there are of each value of the column, in the values' order."""
    return {row[column]: row["count"] for row in rows.groupBy(column).count().orderBy(column).collect()}
