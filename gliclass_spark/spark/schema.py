"""The columns of the tables, as the design states them."""

from __future__ import annotations

from pyspark.sql.types import (
    ArrayType,
    FloatType,
    IntegerType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

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

TAGS = StructType(
    [
        StructField("doc_id", StringType()),
        StructField("content_hash", StringType()),
        *TAG_FIELDS.fields,
        StructField("run_id", StringType()),
        StructField("tagged_at", TimestampType()),
    ]
)

SCORED_LABELS = ArrayType(StructType([StructField("label", StringType()), StructField("score", FloatType())]))
