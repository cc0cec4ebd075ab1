"""Columns, constraints and properties of the Delta tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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

from gliclass_spark.config.output import Output
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
        # `chosen` is true for a document: it was assigned its labels.
        StructField("content_hash", StringType()),
        StructField("chosen", BooleanType()),
        StructField("score", FloatType()),
        StructField("propensity", DoubleType()),
        StructField("model_digest", StringType()),
        # Of a signal about a document: score and propensity of every label. The earliest tables lack these columns.
        StructField("labels", ArrayType(StringType())),
        StructField("scores", MapType(StringType(), FloatType())),
        StructField("propensities", MapType(StringType(), DoubleType())),
        StructField("ingested_at", TimestampType()),
    ]
)

# What the columns mean, as comments of the tables' columns.
TAG_COMMENTS = {
    KEY: "the source's id, as text",
    "content_hash": "SHA-256 of the text: unchanged text is not tagged again",
    "label_set": "name of the label set",
    "label_set_hash": "SHA-256 of the label set",
    "scores": "a score in [0, 1] for every label; empty with an error",
    "labels": "labels that reach their threshold, best first; with exploration the drawn ones",
    "token_count": "tokens of the full text",
    "chunk_count": "windows of the text; 0 with an error",
    "error": "null on success",
    "model": "the pipeline's model URI",
    "model_digest": "SHA-256 over the model's files",
    "explored": "whether the labels were drawn; null without exploration",
    "propensities": "for each label, the probability that the document would be assigned it; null without exploration",
    "run_id": "the run that scored the text",
    "tagged_at": "when the labels were assigned",
    "deleted_at": "in a tombstone, when a run found the document deleted from the source; else null",
}
DECISION_COMMENTS = {
    **TAG_COMMENTS,
    "rules_hash": "SHA-256 of the rules",
    "run_id": "the run that applied the rules",
    "reason": "which reject rule matched",
    "route": "the name of the route",
}
FEEDBACK_COMMENTS = {
    KEY: "the document",
    "label_set_hash": "the label set of the decision",
    "label": "the label; null for a signal about all labels of the document",
    "verdict": "what the signal says about the label, or about all labels of the document",
    "reward": "from -1 to 1: how good the decision was",
    "source": "the person or system that sent it",
    "observed_at": "when it was observed",
    "content_hash": "SHA-256 of the text that the decision was about",
    "chosen": "whether the document was assigned the label; true without a label; null for a late signal",
    "score": "the label's score in the decision; null for a late signal",
    "propensity": "the label's propensity; null for a late signal, and without exploration",
    "model_digest": "the model of the decision; null for a late signal",
    "labels": "of a signal without a label, the labels that the document was assigned, by name; else null",
    "scores": "of a signal without a label, the score of every label; else null",
    "propensities": "of a signal without a label, the propensity of every label; else null",
    "ingested_at": "when the signal was ingested",
}

SCORED_LABELS = ArrayType(StructType([StructField("label", StringType()), StructField("score", FloatType())]))

# The jobs read each other's tables by change feed, and change single rows of large files.
_PROPERTIES = {"delta.enableChangeDataFeed": "true", "delta.enableDeletionVectors": "true"}


@dataclass(frozen=True)
class TableSpec:
    """A table's required columns, constraints, properties and layout. Others may add columns of their own.

    content: what the table holds. cluster_by: the columns that queries select by, or partition_by. constraints: CHECK
    conditions, by name. comments: what the columns mean. settings: properties that the pipeline's file sets, of an
    existing table, too. comment: of the table.
    """

    schema: StructType
    content: str
    not_null: tuple[str, ...] = ()
    cluster_by: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    constraints: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    comment: str | None = None

    def of_pipeline(self, name: str, output: Output) -> TableSpec:
        """Return the spec with the properties of a pipeline's file, and a comment that names the pipeline."""
        return replace(self, settings=output.properties, comment=f"{self.content}; written by pipeline {name}")


TAGS_SPEC = TableSpec(
    TAGS,
    "A row for each document and label set: scores and labels",
    not_null=(KEY, "label_set_hash", "scores", "model_digest", "run_id"),
    cluster_by=("label_set_hash", KEY),
    constraints={
        # No lambda: Delta stores a constraint token by token, and "->" would come back as "- >".
        "scores_are_probabilities": "size(scores) = 0 OR "
        "(array_min(map_values(scores)) >= 0 AND array_max(map_values(scores)) <= 1)"
    },
    properties=_PROPERTIES,
    comments=TAG_COMMENTS,
)

# Tags by a model that the pipeline does not decide by, beside those of the run whose id they have.
SHADOW_TAGS_SPEC = TableSpec(
    TAGS,
    "Tags by another model than the pipeline's, to compare them with",
    not_null=(KEY, "label_set_hash", "scores", "model_digest", "run_id"),
    cluster_by=("run_id", "model_digest", KEY),
    properties={"delta.enableDeletionVectors": "true"},
    comments=TAG_COMMENTS,
)

# Scores that a tag job has computed, and not merged into `tags` yet.
STAGED_SPEC = TableSpec(
    TAGS,
    "Scores that are not verified yet; empty between runs",
    properties={"delta.enableDeletionVectors": "true"},
    comments=TAG_COMMENTS,
)

FEEDBACK_SPEC = TableSpec(
    FEEDBACK,
    "A row for each signal about a decision",
    not_null=(*(name for name in SIGNAL_KEY if name != "label"), "content_hash"),
    cluster_by=("label_set_hash", KEY),
    properties=_PROPERTIES,
    comments=FEEDBACK_COMMENTS,
)

# The tables of the filter job, and what they hold.
FILTERED = {
    "kept": "Documents that no rule rejects",
    "rejected": "Documents that a rule rejects, with its reason",
    "quarantined": "Documents that could not be scored, with the error",
}


def decisions_spec(table: str, decisions: StructType, output: Output) -> TableSpec:
    """Return the spec of a table of decided documents, one row per document, in the layout of `output`."""
    content = FILTERED.get(table, f"Kept documents of the route {table}")
    cluster_by = () if output.partition_by else output.cluster_by or (KEY,)
    return TableSpec(
        decisions,
        content,
        not_null=(KEY,),
        cluster_by=cluster_by,
        partition_by=output.partition_by,
        properties=_PROPERTIES,
        comments=DECISION_COMMENTS,
    )
