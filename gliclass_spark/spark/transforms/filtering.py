"""Filtering: each tagged document is kept, rejected with a reason, or quarantined for its error."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.config.rule_sql import RUN_DATE
from gliclass_spark.config.rules import Rules
from gliclass_spark.labels import LabelSet
from gliclass_spark.spark.delta.column_names import column
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.source_files import SOURCE_ERROR
from gliclass_spark.spark.transforms.rule_expressions import first_match, with_run_date

OUTCOMES = ("kept", "rejected", "quarantined")


def tags_of_label_set(tags: DataFrame, label_set: LabelSet) -> DataFrame:
    """Return the tags of this label set without tombstones, in the columns that rules may use."""
    live = tags.where((F.col("label_set_hash") == label_set.hash) & F.col("deleted_at").isNull())
    return live.drop("run_id", "deleted_at", "propensities")


def with_tags(documents: DataFrame, contents: DataFrame, tags: DataFrame) -> DataFrame:
    """Return documents joined with the tags of their current text; documents without such tags are left out."""
    hashed = documents.join(contents.select(KEY, "content_hash"), KEY)
    matching = (F.col(f"h.{KEY}") == F.col(f"t.{KEY}")) & F.col("h.content_hash").eqNullSafe(F.col("t.content_hash"))
    joined = hashed.alias("h").join(tags.alias("t"), matching)
    document_columns = [column(name, "h") for name in documents.columns if name != SOURCE_ERROR]
    return joined.select(*document_columns, *(column(name, "t") for name in tags.columns if name != KEY))


def decide(tagged: DataFrame, rules: Rules, run_id: str, run_date: date | None = None) -> DataFrame:
    """Add rules_hash, run_id and `reason`, the reason of the first reject rule that matches, null for a kept document.

    The rules are not applied to a document with an error: its reason is null. run_date: the date of the run, for rules
    that use it. Call within `lenient_sql`.
    """
    dated = with_run_date(tagged, rules, run_date)
    decided = dated.withColumns(
        {
            "rules_hash": F.lit(rules.hash),
            "run_id": F.lit(run_id),
            "reason": F.when(F.col("error").isNull(), first_match([(r.when, r.reason) for r in rules.reject])),
        }
    )
    return decided if dated is tagged else decided.drop(RUN_DATE)


def outcome() -> Column:
    """Return the table of a decided document, one of OUTCOMES."""
    is_quarantined, is_rejected = F.col("error").isNotNull(), F.col("reason").isNotNull()
    return F.when(is_quarantined, "quarantined").when(is_rejected, "rejected").otherwise("kept")


def with_outcome(decided: DataFrame, name: str) -> DataFrame:
    """Return the decided documents of a table, one of OUTCOMES, in its columns."""
    rows = decided.where(outcome() == name)
    return rows if name == "rejected" else rows.drop("reason")
