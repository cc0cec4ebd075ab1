"""Routing: each kept document goes to one destination, or to every one that wants it."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.config.rules import Rules
from gliclass_spark.spark.transforms.rule_expressions import every_match, first_match


def route(kept: DataFrame, rules: Rules, run_id: str) -> DataFrame:
    """Add `routes`: the names of the routes whose condition holds (the first, or all: `rules.routing`), or
    the default alone. Must run within `lenient_sql`.
    """
    conditions = [(candidate.when, candidate.route) for candidate in rules.routes]
    default = F.lit(rules.default_route)
    if rules.routing == "first_match":
        found = F.array(F.coalesce(first_match(conditions), default))
    else:
        matching = every_match(conditions)
        found = F.when(F.size(matching) > 0, matching).otherwise(F.array(default))
    return kept.withColumns({"routes": found, "run_id": F.lit(run_id)})


def to_destination(routed: DataFrame, name: str) -> DataFrame:
    """The documents that go to this destination, with its name as `route`."""
    return routed.where(F.array_contains("routes", name)).withColumn("route", F.lit(name)).drop("routes")
