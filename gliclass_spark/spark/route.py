"""Routing: each kept document goes to one destination."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.rules import Rules
from gliclass_spark.spark.conditions import first_match


def route(kept: DataFrame, rules: Rules) -> DataFrame:
    """Add `route`: the first route whose condition holds, else the default. Must run within `lenient_sql`."""
    found = first_match([(candidate.when, candidate.route) for candidate in rules.routes])
    return kept.withColumn("route", F.coalesce(found, F.lit(rules.default_route)))
