"""Nested scores: the scores of nested labels as a struct in the shape of their tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.labels import LabelSet, Tree
from gliclass_spark.labels.tree import nest


def nested_scores(labels: LabelSet | Sequence[str] | Tree, scores: Column | str) -> Column:
    """Return a struct in the shape of the label set, from a column map<string,float> of label scores.

    The column is `scores` of a `tags` table, or the result of gliclass_udf with output="scores":
    `tags.select(nested_scores(mail, "scores").alias("scores")).select("scores.mood.glad")`. A flat label set gives a
    flat struct. The struct is null for an empty or null map; a label without a score is null. Raises LabelSetError if a
    label and a group at the same level have the same name.
    """
    label_set = LabelSet.coerce(labels)
    column = F.col(scores) if isinstance(scores, str) else scores
    tree = nest(label_set.labels, {name: F.try_element_at(column, F.lit(name)) for name in label_set.names})
    return F.when(F.size(column) > 0, _struct(tree))


def _struct(tree: Mapping[str, Any]) -> Column:
    return F.struct(
        *((_struct(node) if isinstance(node, Mapping) else node).alias(name) for name, node in tree.items())
    )
