"""Feedback signals joined per decision: the rules of `gliclass_spark.feedback.verdicts` in Spark."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.feedback.signal_join import Resolve, join_statement
from gliclass_spark.feedback.verdicts import VERDICTS, Verdict
from gliclass_spark.spark.delta.schema import FEEDBACK


def verdict_column(attribute: Callable[[Verdict], object]) -> Column:
    """Return the attribute of each row's `verdict`; null for an unknown verdict."""
    entries = [F.lit(value) for verdict in VERDICTS for value in (verdict.name, attribute(verdict))]
    return F.try_element_at(F.create_map(*entries), F.col("verdict"))


def join_signals(signals: DataFrame, resolve: Resolve = "newest") -> DataFrame:
    """Return one row per decision from rows of `feedback`; `join_statement` names the columns."""
    return signals.sparkSession.sql(join_statement("{signals}", resolve), signals=signals)


def with_current_columns(feedback: DataFrame) -> DataFrame:
    """Return the rows with null in the columns of FEEDBACK that a table of an earlier version lacks."""
    missing = {field.name: field.dataType for field in FEEDBACK if field.name not in feedback.columns}
    return feedback.withColumns({name: F.lit(None).cast(data_type) for name, data_type in missing.items()})
