"""Scores of nested labels in the shape of their tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.labels import LabelSet, Tree
from gliclass_spark.labels.tree import nested


def nested_scores(labels: LabelSet | Sequence[str] | Tree, scores: Column | str) -> Column:
    """A struct in the shape of the label set, of a column map<string,float> with a score for each label.

    The column is `scores` of a `tags` table, or what gliclass_udf gives with output="scores":
    `tags.select(nested_scores(mail, "scores").alias("scores")).select("scores.mood.glad")`. A flat label set gives a
    flat struct. Null where there are no scores; a label that has none is null. Raises LabelSetError if a label and a
    group are of one name in one place.
    """
    asked = LabelSet.coerce(labels)
    column = F.col(scores) if isinstance(scores, str) else scores
    tree = nested(asked.labels, {name: F.try_element_at(column, F.lit(name)) for name in asked.names})
    return F.when(F.size(column) > 0, _struct(tree))


def _struct(tree: Mapping[str, Any]) -> Column:
    return F.struct(
        *((_struct(held) if isinstance(held, Mapping) else held).alias(name) for name, held in tree.items())
    )
