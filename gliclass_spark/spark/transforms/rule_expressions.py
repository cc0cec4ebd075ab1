"""Rules as Spark SQL expressions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.config.rule_sql import CLOCK, RUN_DATE
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


def with_run_date(rows: DataFrame, rules: Rules, run_date: date | None) -> DataFrame:
    """Add the column `run_date`, if a rule uses it and the documents have none of that name."""
    if run_date is None or not rules.uses_run_date or RUN_DATE in [name.lower() for name in rows.columns]:
        return rows
    return rows.withColumn(RUN_DATE, F.lit(run_date))


def check_analysis(tagged: DataFrame, rules: Rules, source: str, run_date: date | None = None) -> None:
    """Analyse each rule against the columns of `tagged` and the date of the run.

    Raises RulesError for a rule that Spark refuses, and for one that would decide differently in another attempt.
    """
    tagged = with_run_date(tagged, rules, run_date)
    for rule in (*rules.reject, *rules.routes):
        try:
            decided = tagged.where(F.expr(rule.when))  # analyses the condition
        except AnalysisException as error:
            reason = str(error).splitlines()[0]
            raise RulesError(f"{source}: {rule.title}: Spark can't evaluate {rule.when!r}: {reason}") from None
        if reads_clock(decided):
            raise RulesError(f"{source}: {rule.title}: {rule.when!r} {CLOCK}")


def reads_clock(filtered: DataFrame) -> bool:
    """Return whether the condition of a frame's last `where` depends on when Spark runs it.

    Spark takes a constant text that becomes a date or timestamp, in whatever notation, by its name: 'today', 'now'. So
    its own rules are applied, which leave a condition as it is that has nothing for them. A text in a column is never
    taken by its name: cast to a date, 'today' is NULL.
    """
    optimizer = filtered.sparkSession._jvm.org.apache.spark.sql.catalyst.optimizer  # type: ignore[union-attr]
    plan = optimizer.ReplaceExpressions.apply(filtered._jdf.queryExecution().analyzed())
    condition = plan.condition()
    replacing = (optimizer.SpecialDatetimeValues, optimizer.ComputeCurrentTime)
    return not condition.deterministic() or any(
        not rule.apply(plan).condition().fastEquals(condition) for rule in replacing
    )
