"""The route job: every kept document that changed is sent to its destinations again. Loads no model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.errors import ManifestError, TableError
from gliclass_spark.manifest import Manifest
from gliclass_spark.spark import changes as change_feed
from gliclass_spark.spark import route as routing
from gliclass_spark.spark import tables
from gliclass_spark.spark.conditions import check_analysis, lenient_sql
from gliclass_spark.spark.runs import last_success
from gliclass_spark.spark.schema import KEY
from gliclass_spark.spark.steps.placement import place, standing
from gliclass_spark.spark.steps.run import Run, finish, job, outputs, prepare_decisions, settings_of


def route_step(run: Run) -> Manifest:
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
            keys = None if changed.whole else changed.keys()
            routed = work.hold(routing.route(changed.rows, rules, run.run_id))
            expected, rows_in = _by_destination(routed, intended)
        with work.timed("write"):
            place(work, {name: routing.to_destination(routed, name) for name in rules.destinations}, keys)
            for name in sorted(run.runs.destinations() - set(rules.destinations)):
                if lake.exists(spark, name) and not lake.read(spark, name).isEmpty():
                    work.notes.append(f"{name} is no longer a destination; its rows were taken out")
                    work.commit(name, partial(tables.clear, spark))
        with work.timed("check"):
            standing_now = standing(run, rules.destinations, keys).where("in_scope")
            placed = standing_now.groupBy(KEY).agg(F.collect_list("table").alias("routes"))
            counted, documents = _by_destination(placed, intended)
        if counted != expected:
            raise ManifestError(
                f"run {run.run_id!r}, route: expected rows by destination {expected}, found {counted}; "
                "another writer changed these tables: run route again with --full"
            )
        done = work.facts(
            rows_in=rows_in,
            documents=kept.count(),
            whole=changed.whole,
            routed=counted,
            routed_documents=documents,
            inputs={"kept": change_feed.since(work.since("kept"), read)},
            outputs=outputs(run, rules.destinations),
        )
        return finish(work, done)


def _by_destination(documents: DataFrame, destinations: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """How many documents go to each destination, and how many there are. `documents` has a column `routes`."""
    found = dict(destinations)
    ways = documents.groupBy("routes").count().collect()
    for way in ways:
        for name in way["routes"]:
            found[name] += way["count"]
    return found, sum(way["count"] for way in ways)
