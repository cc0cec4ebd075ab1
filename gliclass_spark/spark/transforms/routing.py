"""Routing: each kept document goes to the first route that matches, or to every one."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.config.rule_sql import RUN_DATE
from gliclass_spark.config.rules import Rules
from gliclass_spark.spark.delta.column_names import helper
from gliclass_spark.spark.transforms.rule_expressions import every_match, first_match, with_run_date

# The column of a document's routes.
ROUTES = helper("routes")


def route(kept: DataFrame, rules: Rules, run_id: str, run_date: date | None = None) -> DataFrame:
    """Add ROUTES: the routes whose condition holds (the first, or all: `rules.routing`), otherwise the default.

    run_date: the date of the run, for rules that use it. Call within `lenient_sql`.
    """
    conditions = [(rule.when, rule.route) for rule in rules.routes]
    default = F.lit(rules.default_route)
    if rules.routing == "first_match":
        routes = F.array(F.coalesce(first_match(conditions), default))
    else:
        matches = every_match(conditions)
        routes = F.when(F.size(matches) > 0, matches).otherwise(F.array(default))
    dated = with_run_date(kept, rules, run_date)
    routed = dated.withColumns({ROUTES: routes, "run_id": F.lit(run_id)})
    return routed if dated is kept else routed.drop(RUN_DATE)


def to_destination(routed: DataFrame, name: str) -> DataFrame:
    """Return the documents routed to this destination, with its name as `route`."""
    return routed.where(F.array_contains(ROUTES, name)).withColumn("route", F.lit(name)).drop(ROUTES)
