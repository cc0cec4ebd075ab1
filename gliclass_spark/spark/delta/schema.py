"""Columns, constraints and properties of the Delta tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DoubleType,
    FloatType,
    IntegerType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from gliclass_spark.feedback.verdicts import SIGNAL_KEY

KEY = "doc_id"
# What decisions add to the tags; a document's own column of such a name would be overwritten.
DECISION_COLUMNS = ("rules_hash", "reason", "route")
# What Delta adds to the rows of a change data feed; a table with such a column has none.
FEED_METADATA = ("_change_type", "_commit_version", "_commit_timestamp")

# Fields inside are nullable: Delta checks NOT NULL against a null struct's fields, too.
_ERROR = StructType([StructField("code", StringType()), StructField("message", StringType())])

# What the model adds to a text: a function of text, label set and model alone.
TAG_FIELDS = StructType(
    [
        StructField("label_set", StringType()),
        StructField("label_set_hash", StringType()),
        StructField("scores", MapType(StringType(), FloatType())),
        StructField("labels", ArrayType(StringType())),
        StructField("token_count", IntegerType()),
        StructField("chunk_count", IntegerType()),
        StructField("error", _ERROR),
        StructField("model", StringType()),
        StructField("model_digest", StringType()),
    ]
)

# What exploration adds, null without it or with an error: whether the labels were drawn, and for each label the
# probability that the document would get it. The earliest tables lack them.
EXPLORATION_FIELDS = StructType(
    [
        StructField("explored", BooleanType()),
        StructField("propensities", MapType(StringType(), DoubleType())),
    ]
)

TAGS = StructType(
    [
        StructField(KEY, StringType()),
        StructField("content_hash", StringType()),
        *TAG_FIELDS.fields,
        *EXPLORATION_FIELDS.fields,
        # The run that scored the text.
        StructField("run_id", StringType()),
        # When the labels were decided.
        StructField("tagged_at", TimestampType()),
        # When the document was missing from the source: such a row is a tombstone, its scores empty.
        StructField("deleted_at", TimestampType()),
    ]
)

FEEDBACK = StructType(
    [
        *(StructField(name, StringType()) for name in (KEY, "label_set_hash", "label", "verdict")),
        StructField("reward", DoubleType()),
        StructField("source", StringType()),
        StructField("observed_at", TimestampType()),
        # The decision, as `tags` had it when the signal was ingested; for a late signal the text's hash alone.
        StructField("content_hash", StringType()),
        StructField("chosen", BooleanType()),
        StructField("score", FloatType()),
        StructField("propensity", DoubleType()),
        StructField("model_digest", StringType()),
        StructField("ingested_at", TimestampType()),
    ]
)

SCORED_LABELS = ArrayType(StructType([StructField("label", StringType()), StructField("score", FloatType())]))

# The jobs read each other's tables by change feed, and change single rows of large files.
_PROPERTIES = {"delta.enableChangeDataFeed": "true", "delta.enableDeletionVectors": "true"}


@dataclass(frozen=True)
class TableSpec:
    """A table's required columns, constraints and properties. Others may add columns of their own.

    cluster_by: the columns that queries select by. constraints: CHECK conditions, by name.
    """

    schema: StructType
    not_null: tuple[str, ...] = ()
    cluster_by: tuple[str, ...] = ()
    constraints: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)


TAGS_SPEC = TableSpec(
    TAGS,
    not_null=(KEY, "label_set_hash", "scores", "model_digest", "run_id"),
    cluster_by=("label_set_hash", KEY),
    constraints={
        # No lambda: Delta stores a constraint token by token, and "->" would come back as "- >".
        "scores_are_probabilities": "size(scores) = 0 OR "
        "(array_min(map_values(scores)) >= 0 AND array_max(map_values(scores)) <= 1)"
    },
    properties=_PROPERTIES,
)

# Scores that a tag job has computed, and not merged into `tags` yet.
STAGED_SPEC = TableSpec(TAGS, properties={"delta.enableDeletionVectors": "true"})

FEEDBACK_SPEC = TableSpec(
    FEEDBACK, not_null=(*SIGNAL_KEY, "content_hash"), cluster_by=("label_set_hash", KEY), properties=_PROPERTIES
)


def decisions_spec(decisions: StructType) -> TableSpec:
    """Return the spec of a table of decided documents, one row per document."""
    return TableSpec(decisions, not_null=(KEY,), cluster_by=(KEY,), properties=_PROPERTIES)
