"""The route job: kept documents that changed, into the tables of their routes. Loads no model."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import StructType

from gliclass_spark.errors import ManifestError, TableError
from gliclass_spark.runs.freshness import last_success
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.runs.settings import route_settings
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.jobs.decision_counts import OutcomeCounts, by_table, current_rows
from gliclass_spark.spark.jobs.decision_tables import DecisionTables, check_schemas
from gliclass_spark.spark.jobs.job_run import Job, claimed_job, finished_job
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.run_date import date_settings
from gliclass_spark.spark.transforms import routing
from gliclass_spark.spark.transforms.rule_expressions import check_analysis, lenient_sql


def route_step(run: PipelineRun) -> Manifest:
    """Write every kept document into the tables of its routes, and remove it from those that it left.

    Reads the version of `kept` that the last filter job of these rules left. Raises TableError if there was none.
    """
    run = run.in_own_session()
    spark, pipeline, lake = run.spark, run.pipeline, run.lake
    rules = pipeline.rules
    recent = run.runs.recent()
    dated = date_settings(run, recent)
    filtered_by = _last_filter_job(run, recent)
    with lenient_sql(spark):
        kept = _kept(run, filtered_by)
        check_analysis(kept, rules, run.title, **dated)
        schemas = _schemas(run, kept)
        check_schemas(run, schemas)
    settings = route_settings(pipeline, **dated)
    if (finished := finished_job(run, "route", settings, recent)) is not None:
        return finished

    # The claim records the destinations, so that a later run empties those that the rules no longer name, even
    # if this run is killed.
    no_rows = dict.fromkeys(rules.destinations, 0)
    with (
        claimed_job(run, "route", settings, recent, model_digest=filtered_by.model_digest, routed=no_rows) as job,
        lenient_sql(spark),
    ):
        former_destinations = sorted(run.runs.destinations() - set(rules.destinations))
        job.fence([*rules.destinations, *former_destinations])
        # The filter job may have run again before this one claimed.
        if (now := _last_filter_job(run, job.earlier)) != filtered_by:
            filtered_by, schemas = now, _schemas(run, _kept(run, now))
        kept_range = filtered_by.outputs["kept"]
        tables = DecisionTables(job, schemas)
        tables.prepare()
        with job.timed("read"):
            changes = job.changes("kept", lake.table("kept"), kept_range, lambda rows, _: rows)
            keys = None if changes.full_scan else changes.keys()
            routed = job.cache(routing.route(changes.rows, rules, run.run_id, **dated))
            routed_counts, changed_count = _count_routes(routed)
            expected = {**no_rows, **by_table(routed_counts)}
        with job.timed("write"):
            decisions = {name: routing.to_destination(routed, name) for name in rules.destinations}
            tables.write(decisions, routed_counts, keys, only_new=changes.only_new)
            _empty(job, former_destinations)
        with job.timed("check"):
            stored, table_rows = tables.count_stored(routed_counts, keys)
            counts = {**no_rows, **by_table(stored)}
            document_count = sum(counts.values())
            if rules.routing != "first_match":  # a document may be in several tables
                document_count = changed_count if tables.appended else _count_documents(run, keys)
        if counts != expected:
            raise ManifestError(
                f"run {run.run_id!r}, route: expected rows by destination {expected}, found {counts}; "
                "another writer changed these tables: run route again with --full"
            )
        return job.succeed(
            rows_in=changed_count,
            documents=lake.table("kept").row_count(spark, kept_range.until),
            routed=counts,
            routed_documents=document_count,
            table_rows=table_rows,
            columns_hash=tables.columns_hash,
            outputs=lake.latest(spark, rules.destinations),
            **job.versions_read(changes.full_scan, kept=(lake.table("kept"), kept_range)),
        )


def _kept(run: PipelineRun, filtered_by: Manifest) -> DataFrame:
    """Return the version of `kept` that a filter job left."""
    return run.lake.table("kept").read(run.spark, filtered_by.outputs["kept"].until)


def _schemas(run: PipelineRun, kept: DataFrame) -> dict[str, StructType]:
    rules = run.pipeline.rules
    routed = routing.route(kept, rules, run.run_id, **date_settings(run, []))
    return dict.fromkeys(rules.destinations, routing.to_destination(routed, rules.default_route).schema)


def _last_filter_job(run: PipelineRun, recent: list[Manifest]) -> Manifest:
    """Return the last successful filter job. Raises TableError if there is none, or none of the present rules.

    A job of other rules that came later has written its decisions: this run is behind it.
    """
    label_set_hash, rules_hash = run.pipeline.label_set.hash, run.pipeline.rules.hash
    manifest = last_success(recent, "filter")
    if manifest is None or (manifest.label_set_hash, manifest.rules_hash) != (label_set_hash, rules_hash):
        raise TableError(
            f"{run.lake.table('kept').name}: the last filter job did not use this label set and these rules (hash "
            f"{rules_hash[:12]}); run the filter job first"
        )
    return manifest


def _empty(job: Job, former_destinations: list[str]) -> None:
    """Delete the rows of tables that an earlier run routed to and that the rules no longer name."""
    run = job.run
    for name in former_destinations:
        if run.lake.exists(run.spark, name) and not run.lake.read(run.spark, name).isEmpty():
            job.notes.append(f"{name} is no longer a destination; its rows were taken out")
            job.truncate(name)


def _count_routes(routed: DataFrame) -> tuple[OutcomeCounts, int]:
    """Return the number of documents of each route, and of all documents: each has one route or more."""
    routes = routed.select(F.posexplode(routing.ROUTES).alias("index", "route"))
    counted = routes.groupBy("route").agg(F.count("*").alias("rows"), F.count_if(F.col("index") == 0).alias("first"))
    rows = counted.collect()
    return {(row["route"], None): row["rows"] for row in rows}, sum(row["first"] for row in rows)


def _count_documents(run: PipelineRun, keys: DataFrame | None) -> int:
    """Return how many of the documents `keys` (None: of all) the destinations hold."""
    in_scope = current_rows(run, run.pipeline.rules.destinations, keys).where("in_scope")
    return in_scope.select(KEY).distinct().count()
