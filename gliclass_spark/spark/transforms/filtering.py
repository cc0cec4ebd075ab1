"""Filtering: each tagged document is kept, rejected for a reason, or quarantined for its error."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.config.rules import Rules
from gliclass_spark.labels import LabelSet
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.transforms.rule_expressions import first_match


def tags_of_label_set(tags: DataFrame, label_set: LabelSet) -> DataFrame:
    """The tags of this label set, without tombstones, and without what no rule asks for: when they were written,
    and what exploration could have made of them.
    """
    live = tags.where((F.col("label_set_hash") == label_set.hash) & F.col("deleted_at").isNull())
    return live.drop("run_id", "deleted_at", "propensities")


def with_tags(documents: DataFrame, contents: DataFrame, tags: DataFrame) -> DataFrame:
    """Documents beside their tags; a document whose text was not tagged as it is now is left out."""
    hashed = documents.join(contents.select(KEY, "content_hash"), KEY)
    matching = (F.col(f"h.{KEY}") == F.col(f"t.{KEY}")) & F.col("h.content_hash").eqNullSafe(F.col("t.content_hash"))
    joined = hashed.alias("h").join(tags.alias("t"), matching)
    own = [F.col(f"h.`{name}`") for name in documents.columns]
    return joined.select(*own, *(F.col(f"t.{name}") for name in tags.columns if name != KEY))


def decide(tagged: DataFrame, rules: Rules, run_id: str) -> DataFrame:
    """Add rules_hash, run_id, and `reason`: that of the first reject rule that matches, null for a kept document.

    A document with an error is not judged: its reason is null too. Must run within `lenient_sql`.
    """
    return tagged.withColumns(
        {
            "rules_hash": F.lit(rules.hash),
            "run_id": F.lit(run_id),
            "reason": F.when(F.col("error").isNull(), first_match([(r.when, r.reason) for r in rules.reject])),
        }
    )


def kept(decided: DataFrame) -> DataFrame:
    return decided.where(F.col("error").isNull() & F.col("reason").isNull()).drop("reason")


def rejected(decided: DataFrame) -> DataFrame:
    return decided.where(F.col("reason").isNotNull())


def quarantined(decided: DataFrame) -> DataFrame:
    return decided.where(F.col("error").isNotNull()).drop("reason")
