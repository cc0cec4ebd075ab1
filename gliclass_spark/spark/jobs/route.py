"""The route job: every kept document that changed is sent to its destinations again. Loads no model."""

from __future__ import annotations

from functools import partial

from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.errors import ManifestError, TableError
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.delta import change_feed, tables
from gliclass_spark.spark.delta.runs_table import last_success
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.jobs.decision_tables import current_rows, write_decisions
from gliclass_spark.spark.jobs.pipeline_run import (
    PipelineRun,
    counts,
    finish,
    job,
    outputs,
    prepare_decisions,
    settings_of,
)
from gliclass_spark.spark.transforms import routing
from gliclass_spark.spark.transforms.rule_expressions import check_analysis, lenient_sql


def route_step(run: PipelineRun) -> Manifest:
    """Send every kept document to the tables of its routes, and take it out of those that it no longer belongs to.

    Reads `kept` as the last filter job of these rules left it. Raises TableError if there was none.
    """
    spark, pipeline, lake = run.spark, run.pipeline, run.lake
    rules = pipeline.rules
    known = run.runs.recent()
    filtered_by = last_success(known, "filter", label_set_hash=pipeline.label_set.hash, rules_hash=rules.hash)
    if filtered_by is None:
        raise TableError(
            f"{lake.path('kept')}: no run has filtered by this label set and these rules (hash {rules.hash[:12]}); "
            "run the filter job first"
        )
    read = filtered_by.outputs["kept"]
    kept = lake.address("kept").read(spark, read.until)
    with lenient_sql(spark):
        check_analysis(kept, rules, run.title)
        spec = tables.decisions_spec(
            routing.to_destination(routing.route(kept, rules, run.run_id), rules.default_route)
        )
    specs = dict.fromkeys(rules.destinations, spec)
    for name in specs:
        tables.check(spark, lake.path(name), spec.schema)
    settings = settings_of(label_set=pipeline.label_set.hash, rules=rules.hash)
    earlier = last_success(known, "route", run_id=run.run_id, settings_hash=settings)
    if earlier is not None:
        return earlier
    # The destinations are written down with the claim: if they are no longer among the rules one day,
    # they are emptied, even if this run was killed.
    intended = dict.fromkeys(rules.destinations, 0)
    with (
        job(run, "route", settings, known, model_digest=filtered_by.model_digest, routed=intended) as work,
        lenient_sql(spark),
    ):
        prepare_decisions(work, specs)
        with work.timed("read"):
            changed = work.changes("kept", lake.address("kept"), read, lambda frame, _: frame)
            keys = None if changed.full_scan else changed.keys()
            routed = work.hold(routing.route(changed.rows, rules, run.run_id))
            rows_in = routed.count()
            expected = {**intended, **counts(routed.select(F.explode("routes").alias("to")), F.col("to"))}
        with work.timed("write"):
            write_decisions(work, {name: routing.to_destination(routed, name) for name in rules.destinations}, keys)
            for name in sorted(run.runs.destinations() - set(rules.destinations)):
                if lake.exists(spark, name) and not lake.read(spark, name).isEmpty():
                    work.notes.append(f"{name} is no longer a destination; its rows were taken out")
                    work.commit(name, partial(tables.clear, spark))
        with work.timed("check"):
            standing_now = current_rows(run, rules.destinations, keys).where("in_scope")
            counted = {**intended, **counts(standing_now, F.col("table"))}
            documents = standing_now.select(KEY).distinct().count() if len(counted) > 1 else sum(counted.values())
        if counted != expected:
            raise ManifestError(
                f"run {run.run_id!r}, route: expected rows by destination {expected}, found {counted}; "
                "another writer changed these tables: run route again with --full"
            )
        done = work.facts(
            rows_in=rows_in,
            documents=kept.count(),
            full_scan=changed.full_scan,
            routed=counted,
            routed_documents=documents,
            inputs={"kept": change_feed.since(work.since("kept"), read)},
            outputs=outputs(run, rules.destinations),
        )
        return finish(work, done)
