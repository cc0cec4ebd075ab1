"""Several signals on one decision, joined: the rules of `gliclass_spark.feedback.verdicts`, in Spark's words."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.feedback.verdicts import VERDICTS, Verdict
from gliclass_spark.spark.delta.schema import KEY

# What signals are joined by: a text that changed makes another decision.
DECISION_KEY = (KEY, "label_set_hash", "label", "content_hash")


def of_verdict(fact: Callable[[Verdict], object]) -> Column:
    """A fact about each row's verdict; null for one that is unknown."""
    known = [F.lit(value) for verdict in VERDICTS for value in (verdict.name, fact(verdict))]
    return F.try_element_at(F.create_map(*known), F.col("verdict"))


def joined(signals: DataFrame) -> DataFrame:
    """Rows of `feedback` to one row for each decision: DECISION_KEY, target, reward, chosen, score, propensity,
    first_at and observed_at (of its first and its newest signal), contradicting, and the counts `signals` and `late`.
    """
    explicit = of_verdict(lambda verdict: verdict.explicit)
    rated = F.when(F.col("reward") != 0, (F.col("chosen") == (F.col("reward") > 0)).cast("int"))
    said = F.coalesce(of_verdict(lambda verdict: verdict.target), F.when(explicit, rated))
    decision = Window.partitionBy(*DECISION_KEY)
    newest = F.max(F.when(explicit, F.col("observed_at"))).over(decision)
    marked = signals.withColumns({"_explicit": explicit, "_newest": newest})
    current = F.col("_explicit") & (F.col("observed_at") == F.col("_newest"))
    marked = marked.withColumn("_said", F.when(current, said))
    contradicting = F.max("_said").over(decision) > F.min("_said").over(decision)
    marked = marked.withColumn("_contradicting", F.coalesce(contradicting, F.lit(False)))
    explicit_counts = F.col("_newest").isNotNull() & ~F.col("_contradicting")
    counts = F.when(explicit_counts, current).otherwise(~F.col("_explicit"))
    told = F.max_by(F.struct("chosen", "score", "propensity"), F.when(counts, F.struct("observed_at", "source")))
    found = marked.groupBy(*DECISION_KEY).agg(
        F.max(F.when(counts, F.col("_said"))).alias("target"),
        F.avg(F.when(counts, F.col("reward"))).alias("reward"),
        told.alias("_told"),
        F.min("observed_at").alias("first_at"),
        F.max("observed_at").alias("observed_at"),
        F.max("_contradicting").alias("contradicting"),
        F.count("*").alias("signals"),
        F.count_if(F.col("chosen").isNull()).alias("late"),
    )
    return found.select("*", "_told.*").drop("_told")
