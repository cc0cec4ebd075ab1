"""The columns of the tables, as the design states them."""

from __future__ import annotations

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

KEY = "doc_id"
# What decisions add beside the tags; a document's own column of such a name would be overwritten.
DECISION_COLUMNS = ("rules_hash", "reason", "route")

# Fields inside are nullable: Delta holds a null struct's fields against a NOT NULL, too.
_ERROR = StructType([StructField("code", StringType()), StructField("message", StringType())])

# What the model adds to a text. A function of text, label set and model alone: no run, no clock.
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

# What exploration adds, null without it or with an error: whether the labels were drawn, and for each label how
# probable it was that the document would get it. Tables from before there was exploration lack them.
LANE_FIELDS = StructType(
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
        *LANE_FIELDS.fields,
        # The run that asked the model.
        StructField("run_id", StringType()),
        # When the labels were decided.
        StructField("tagged_at", TimestampType()),
        # When the document was found gone from the source: such a row is a tombstone, its scores empty.
        StructField("deleted_at", TimestampType()),
    ]
)

SCORED_LABELS = ArrayType(StructType([StructField("label", StringType()), StructField("score", FloatType())]))
