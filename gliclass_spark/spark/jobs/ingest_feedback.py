"""Signals about decisions into the table `feedback`, beside what was decided.

A signal that is there already is left alone, so a file can be taken in again. A signal that can't be
about any decision in `tags` is refused, and counted by its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from delta.tables import DeltaTable
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import (
    BooleanType,
    DoubleType,
    FloatType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ErrorShareError, TableError
from gliclass_spark.feedback.verdicts import REQUIRED, SIGNAL_KEY
from gliclass_spark.spark.delta import file_system, tables
from gliclass_spark.spark.delta.commits import conflicts_retried
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.delta.tables import PROPERTIES, Lake, TableSpec
from gliclass_spark.spark.jobs.pipeline_run import reporting_spark_errors
from gliclass_spark.spark.session import temporary_settings
from gliclass_spark.spark.transforms.signals import join_signals, verdict_column

FEEDBACK = StructType(
    [
        *(StructField(name, StringType()) for name in (KEY, "label_set_hash", "label", "verdict")),
        StructField("reward", DoubleType()),
        StructField("source", StringType()),
        StructField("observed_at", TimestampType()),
        # What was decided, as `tags` had it when the signal came in; null for a late signal, but for the text.
        StructField("content_hash", StringType()),
        StructField("chosen", BooleanType()),
        StructField("score", FloatType()),
        StructField("propensity", DoubleType()),
        StructField("model_digest", StringType()),
        StructField("ingested_at", TimestampType()),
    ]
)
FEEDBACK_SPEC = TableSpec(
    FEEDBACK, not_null=(*SIGNAL_KEY, "content_hash"), cluster_by=("label_set_hash", KEY), properties=PROPERTIES
)

_FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
_OPTIONS = {
    "csv": {"header": "true", "multiLine": "true", "escape": '"'},
    "json": {"primitivesAsString": "true"},
}
_OPTIONAL = ("label_set_hash", "reward")
# Spark would take "10:30" for today's half past ten.
_DATED = r"^\s*\d{4}-\d{2}-\d{2}"
_LATE_LACK = ("chosen", "score", "propensity", "model_digest")
_EXAMPLE_CHARS = 200


@dataclass(frozen=True)
class Refused:
    """How many signals were refused for one reason, and one of them as it stood in the file."""

    count: int
    example: str


@dataclass(frozen=True)
class Ingested:
    """What became of the signals that were read: each is new, known or refused.

    late: of the new ones, those about an earlier decision. contradicting: of the decisions that the file
    speaks about, those whose newest explicit signals contradict each other.
    """

    read: int
    new: int
    known: int
    late: int
    contradicting: int
    refused: dict[str, Refused]


def ingest(spark: SparkSession, pipeline: Pipeline, address: str, max_error_ratio: float | None = None) -> Ingested:
    """Merge the signals at `address` into `feedback`: CSV, JSON lines, Parquet, a folder of one of them, or Delta.

    Times without a zone are UTC. At most `max_error_ratio` of the signals may be refused; None: the share
    that the pipeline states. Raises TableError if there are no signals or a column is missing, and
    ErrorShareError, with nothing written, if more are refused.
    """
    allowed = pipeline.max_error_ratio if max_error_ratio is None else max_error_ratio
    path = Lake(pipeline.tables).path("feedback")
    with (
        reporting_spark_errors(f"feedback of pipeline {pipeline.name!r}"),
        temporary_settings(spark, {"spark.sql.session.timeZone": "UTC"}),
    ):
        judged = _judged(_read(spark, address), pipeline).persist(StorageLevel.MEMORY_AND_DISK)
        refused = _refused(judged)
        read, bad = judged.count(), sum(each.count for each in refused.values())
        if bad > allowed * read:
            listed = "; ".join(f"{reason}: {each.count}, as {each.example}" for reason, each in refused.items())
            raise ErrorShareError(
                f"{address}: {bad} of {read} signals are refused, a share of {bad / read:.3f}, at most {allowed} is "
                f"allowed; nothing was written ({listed}). Mend the file, or raise --max-error-ratio"
            )
        tables.ensure(spark, path, FEEDBACK_SPEC)
        there = DeltaTable.forPath(spark, path).toDF()
        signals = _once(judged.where("reason IS NULL"))
        fresh = signals.join(there, list(SIGNAL_KEY), "left_anti").select(*FEEDBACK.names)
        fresh = fresh.persist(StorageLevel.MEMORY_AND_DISK)
        new, late = fresh.count(), fresh.where("chosen IS NULL").count()
        if new:
            conflicts_retried(partial(tables.insert_new, fresh, SIGNAL_KEY, path), path)
        about = signals.select(KEY, "label_set_hash", "label").distinct()
        decisions = join_signals(DeltaTable.forPath(spark, path).toDF().join(about, about.columns, "left_semi"))
        contradicting = decisions.where("contradicting").count()
        fresh.unpersist()
        judged.unpersist()
    return Ingested(read, new, read - bad - new, late, contradicting, refused)


def _read(spark: SparkSession, address: str) -> DataFrame:
    """The signals as the file has them: strings, and a time where it has a time. Raises TableError."""
    if DeltaTable.isDeltaTable(spark, address):
        frame = spark.read.format("delta").load(address)
    else:
        kind = _format(spark, address)
        frame = spark.read.format(kind).options(**_OPTIONS.get(kind, {})).load(address)
    types = {field.name.lower(): field.dataType for field in frame.schema}
    missing = [name for name in REQUIRED if name not in types]
    if missing:
        raise TableError(
            f"{address}: column {missing[0]!r} is missing; signals have the columns {', '.join(REQUIRED)}, and may "
            f"have {' and '.join(_OPTIONAL)}; found {', '.join(frame.columns)}"
        )
    texts = {name: F.col(name) if name in types else F.lit(None) for name in (*SIGNAL_KEY[:-1], "reward")}
    observed = F.col("observed_at")
    if not isinstance(types["observed_at"], TimestampType):
        observed = observed.cast("string")
    return frame.select(*(text.cast("string").alias(name) for name, text in texts.items()), observed)


def _format(spark: SparkSession, address: str) -> str:
    names = [name for name in file_system.names(spark, address) if not name.startswith(("_", "."))]
    found = {_FORMATS.get(PurePosixPath(name).suffix.lower(), name) for name in names}
    if len(found) != 1 or not found <= set(_FORMATS.values()):
        what = f"holds {', '.join(sorted(names)[:3])}" if names else "holds nothing"
        known = ", ".join(_FORMATS)
        raise TableError(f"{address} {what}; give a Delta table, a file of signals ({known}), or a folder of one kind")
    return found.pop()


def _judged(rows: DataFrame, pipeline: Pipeline) -> DataFrame:
    """The columns of FEEDBACK, `reason` (why the signal is refused, else null), and `example`, the row as it stood."""
    present = F.lit(pipeline.label_set.hash)
    observed = F.col("observed_at")
    if isinstance(rows.schema["observed_at"].dataType, StringType):
        observed = F.when(observed.rlike(_DATED), observed.try_cast("timestamp"))
    read = rows.withColumns(
        {
            "example": F.substring(F.to_json(F.struct(*rows.columns)), 1, _EXAMPLE_CHARS),
            "label_set_hash": F.coalesce("label_set_hash", present),
            "stated": F.col("reward").try_cast("double"),
            "observed_at": observed,
            "ingested_at": F.current_timestamp(),
        }
    )
    found = _beside_tags(read, Lake(pipeline.tables).read(rows.sparkSession, "tags"))
    target = verdict_column(lambda verdict: verdict.target)
    as_it_should = F.when(F.col("chosen") == (target == 1), 1.0).when(F.col("chosen").isNotNull(), -1.0)
    worth = F.coalesce("stated", verdict_column(lambda verdict: verdict.reward), F.when(target.isNotNull(), as_it_should))
    return found.withColumn("reason", _reason()).withColumn("reward", worth)


def _beside_tags(signals: DataFrame, tags: DataFrame) -> DataFrame:
    """The signals with what was decided about the document: null where nothing was, and for a late signal."""
    live = tags.where("deleted_at IS NULL")
    propensities = F.col("propensities") if "propensities" in tags.columns else F.lit(None).cast("map<string,double>")
    columns = (KEY, "label_set_hash", "content_hash", "labels", "scores", "model_digest", "tagged_at")
    decisions = live.select(*columns, propensities.alias("propensities"))
    asked = live.select("label_set_hash").distinct().withColumn("asked", F.lit(True))
    both = signals.join(decisions, [KEY, "label_set_hash"], "left").join(asked, "label_set_hash", "left")
    decided = both.withColumns(
        {
            "chosen": F.array_contains("labels", F.col("label")),
            "score": F.try_element_at("scores", F.col("label")),
            "propensity": F.try_element_at("propensities", F.col("label")),
        }
    )
    in_time = F.col("observed_at") >= F.col("tagged_at")
    decided = decided.withColumn("known_label", F.col("score").isNotNull())
    return decided.withColumns({name: F.when(in_time, F.col(name)) for name in _LATE_LACK})


def _reason() -> Column:
    """Why a signal is refused; null if it is not."""
    reason = F.when(F.lit(False), "")
    for name in ("doc_id", "label", "source"):
        reason = reason.when(F.coalesce(F.trim(name), F.lit("")) == "", f"{name} is empty")
    must_state = verdict_column(lambda verdict: verdict.states_reward)
    off = F.col("stated").isNull() | F.isnan("stated") | ~F.col("stated").between(-1.0, 1.0)
    return (
        reason.when(must_state.isNull(), "unknown verdict")
        .when(F.col("observed_at").isNull(), "observed_at is no time, such as 2026-03-01T08:00:00Z")
        .when(F.col("reward").isNull() & must_state, "the verdict needs a reward")
        .when(F.col("reward").isNotNull() & off, "reward is no number from -1 to 1")
        .when(F.col("asked").isNull(), "unknown label_set_hash")
        .when(F.col("tagged_at").isNull(), "unknown doc_id")
        .when(F.size("scores") == 0, "the document could not be scored")
        .when(~F.col("known_label"), "unknown label")
    )


def _refused(judged: DataFrame) -> dict[str, Refused]:
    """By reason, the most frequent first."""
    found = judged.where("reason IS NOT NULL").groupBy("reason").agg(F.count("*"), F.min("example")).collect()
    return {reason: Refused(count, example) for reason, count, example in sorted(found, key=lambda row: -row[1])}


def _once(signals: DataFrame) -> DataFrame:
    """One row for each signal; of several that differ in the reward alone, the lowest."""
    order = Window.partitionBy(*SIGNAL_KEY).orderBy("reward")
    return signals.withColumn("_turn", F.row_number().over(order)).where("_turn = 1").drop("_turn")
