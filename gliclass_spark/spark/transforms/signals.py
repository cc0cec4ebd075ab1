"""Feedback signals joined per decision: the rules of `gliclass_spark.feedback.verdicts` in Spark."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.feedback.verdicts import VERDICTS, Verdict
from gliclass_spark.spark.delta.schema import KEY

# The text is part of the key: a decision about another text is another decision.
DECISION_KEY = (KEY, "label_set_hash", "label", "content_hash")


def verdict_column(attribute: Callable[[Verdict], object]) -> Column:
    """Return the attribute of each row's `verdict`; null for an unknown verdict."""
    entries = [F.lit(value) for verdict in VERDICTS for value in (verdict.name, attribute(verdict))]
    return F.try_element_at(F.create_map(*entries), F.col("verdict"))


def join_signals(signals: DataFrame) -> DataFrame:
    """Return one row per decision from rows of `feedback`.

    Its columns: DECISION_KEY, target, reward, chosen, score, propensity and source of the latest signal, first_at and
    observed_at (the times of the first and the latest signal), contradicting, and the counts `signals` and `late`.
    """
    decision = Window.partitionBy(*DECISION_KEY)
    explicit = verdict_column(lambda verdict: verdict.explicit)
    latest = F.max(F.when(explicit, F.col("observed_at"))).over(decision)
    rows = signals.withColumns({"_explicit": explicit, "_latest": latest})

    # Explicit signals other than the latest are superseded.
    current = F.col("_explicit") & (F.col("observed_at") == F.col("_latest"))
    rated_target = F.when(F.col("reward") != 0, (F.col("chosen") == (F.col("reward") > 0)).cast("int"))
    target = F.coalesce(verdict_column(lambda verdict: verdict.target), F.when(explicit, rated_target))
    rows = rows.withColumn("_target", F.when(current, target))
    contradicting = F.max("_target").over(decision) > F.min("_target").over(decision)
    rows = rows.withColumn("_contradicting", F.coalesce(contradicting, F.lit(False)))

    # Implicit signals count only where there is no explicit one, or where the explicit ones contradict each other.
    explicit_counts = F.col("_latest").isNotNull() & ~F.col("_contradicting")
    counts = F.when(explicit_counts, current).otherwise(~F.col("_explicit"))
    latest_decision = F.max_by(
        F.struct("chosen", "score", "propensity", "source"), F.when(counts, F.struct("observed_at", "source"))
    )
    decisions = rows.groupBy(*DECISION_KEY).agg(
        F.max(F.when(counts, F.col("_target"))).alias("target"),
        F.avg(F.when(counts, F.col("reward"))).alias("reward"),
        latest_decision.alias("_decision"),
        F.min("observed_at").alias("first_at"),
        F.max("observed_at").alias("observed_at"),
        F.max("_contradicting").alias("contradicting"),
        F.count("*").alias("signals"),
        F.count_if(F.col("chosen").isNull()).alias("late"),
    )
    return decisions.select("*", "_decision.*").drop("_decision")
