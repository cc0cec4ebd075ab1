"""Rules as Spark SQL expressions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.config.rules import Rules
from gliclass_spark.errors import RulesError


@contextmanager
def lenient_sql(spark: SparkSession) -> Iterator[None]:
    """Turn ANSI mode off within the block: `labels[0]` of a document without labels is NULL instead of an error."""
    before = spark.conf.get("spark.sql.ansi.enabled")
    spark.conf.set("spark.sql.ansi.enabled", "false")
    try:
        yield
    finally:
        spark.conf.set("spark.sql.ansi.enabled", before or "true")


def first_match(conditions: Sequence[tuple[str, str]]) -> Column:
    """Return the name of the first (condition, name) whose condition is true, or null; NULL is not true."""
    result = F.lit(None).cast("string")
    for condition, name in reversed(conditions):
        result = F.when(F.expr(condition), F.lit(name)).otherwise(result)
    return result


def every_match(conditions: Sequence[tuple[str, str]]) -> Column:
    """Return the names of every (condition, name) whose condition is true, in their order."""
    names = [F.when(F.expr(condition), F.lit(name)) for condition, name in conditions]
    return F.array_compact(F.array(*names).cast("array<string>"))


def check_analysis(tagged: DataFrame, rules: Rules, source: str) -> None:
    """Analyse each rule against the columns of `tagged`. Raises RulesError for a rule that Spark refuses."""
    for rule in (*rules.reject, *rules.routes):
        try:
            tagged.where(F.expr(rule.when)).schema  # noqa: B018 - reading the schema analyses the condition
        except AnalysisException as error:
            reason = str(error).splitlines()[0]
            raise RulesError(f"{source}: {rule.title}: Spark can't evaluate {rule.when!r}: {reason}") from None
