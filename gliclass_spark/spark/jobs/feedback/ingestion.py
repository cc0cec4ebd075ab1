"""Ingestion of feedback: signals about decisions into the table `feedback`, each with its decision.

A signal that the table has is skipped, so a file can be ingested again. A signal that can't be about any
decision in `tags` is refused, and counted by its reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial, reduce
from operator import and_

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import StringType

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ErrorShareError
from gliclass_spark.feedback.verdicts import SIGNAL_KEY
from gliclass_spark.spark.delta import table_creation, writes
from gliclass_spark.spark.delta.column_names import helper
from gliclass_spark.spark.delta.commits import retry_conflicts
from gliclass_spark.spark.delta.lake import Lake
from gliclass_spark.spark.delta.schema import FEEDBACK, FEEDBACK_SPEC, KEY
from gliclass_spark.spark.delta.table_ref import TableRef
from gliclass_spark.spark.jobs.feedback.signal_files import read_signals
from gliclass_spark.spark.session import temporary_settings
from gliclass_spark.spark.spark_errors import reporting_spark_errors
from gliclass_spark.spark.transforms.signals import join_signals, verdict_column

# Spark would read "10:30" as a time of today.
_HAS_DATE = r"^\s*\d{4}-\d{2}-\d{2}"
_NULL_IF_LATE = ("chosen", "score", "propensity", "model_digest")
_OF_DOCUMENTS = ("labels", "scores", "propensities")
_EXAMPLE_CHARS = 200
_RANK = helper("rank")


@dataclass(frozen=True)
class RefusedSignals:
    """The number of signals refused for one reason, and one of them as JSON."""

    count: int
    example: str


@dataclass(frozen=True)
class IngestedSignals:
    """Counts of the signals that were read: each is new, a duplicate or refused.

    duplicates: signals that the table has, or that the file repeats. documents: new ones without a label, about all
    labels of a document. late: new ones about an earlier decision. contradicting: decisions of the file's signals whose
    latest explicit signals contradict each other.
    """

    read: int
    new: int
    duplicates: int
    documents: int
    late: int
    contradicting: int
    refused: dict[str, RefusedSignals]


def ingest(spark: SparkSession, pipeline: Pipeline, path: str, max_error_ratio: float | None = None) -> IngestedSignals:
    """Insert the signals at `path` (see `read_signals`) into `feedback`.

    Times without a zone are UTC. At most `max_error_ratio` of the signals may be refused; None: the
    pipeline's. Raises TableError if there are no signals or a column is missing, and ErrorShareError, with
    nothing written, if more are refused.
    """
    allowed = pipeline.max_error_ratio if max_error_ratio is None else max_error_ratio
    feedback = Lake(pipeline.tables).table("feedback")
    with (
        reporting_spark_errors(f"feedback of pipeline {pipeline.name!r}"),
        temporary_settings(spark, {"spark.sql.session.timeZone": "UTC"}),
    ):
        checked = _checked(read_signals(spark, path), pipeline).persist(StorageLevel.MEMORY_AND_DISK)
        refused = _refused_by_reason(checked)
        read_count, refused_count = checked.count(), sum(reason.count for reason in refused.values())
        if refused_count > allowed * read_count:
            listed = "; ".join(f"{name}: {reason.count}, as {reason.example}" for name, reason in refused.items())
            raise ErrorShareError(
                f"{path}: {refused_count} of {read_count} signals are refused, a share of "
                f"{refused_count / read_count:.3f}, at most {allowed} is allowed; nothing was written ({listed}). Fix "
                "the file, or raise --max-error-ratio"
            )
        table_creation.ensure(spark, feedback, FEEDBACK_SPEC.of_pipeline(pipeline.name, pipeline.output))
        stored = feedback.read(spark, None)
        signals = _distinct(checked.where("reason IS NULL"))
        new = signals.join(stored, _equal(signals, stored, SIGNAL_KEY), "left_anti").select(*FEEDBACK.names)
        new = new.persist(StorageLevel.MEMORY_AND_DISK)
        counts = new.agg(F.count("*"), F.count_if(F.col("label").isNull()), F.count_if(F.col("chosen").isNull()))
        new_count, document_count, late_count = counts.collect()[0]
        if new_count:
            retry_conflicts(partial(_insert, new, feedback), feedback.name)
        decision_keys = signals.select(KEY, "label_set_hash", "label").distinct()
        stored = feedback.read(spark, None)
        has_key = _equal(stored, decision_keys, decision_keys.columns)
        decisions = join_signals(stored.join(decision_keys, has_key, "left_semi"))
        contradicting_count = decisions.where("contradicting").count()
        new.unpersist()
        checked.unpersist()
    duplicate_count = read_count - refused_count - new_count
    return IngestedSignals(
        read_count, new_count, duplicate_count, document_count, late_count, contradicting_count, refused
    )


def _equal(one: DataFrame, other: DataFrame, names: Iterable[str]) -> Column:
    """Return whether rows are equal in the columns; a missing label equals a missing label."""
    return reduce(and_, (one[name].eqNullSafe(other[name]) for name in names))


def _insert(new: DataFrame, feedback: TableRef) -> None:
    writes.insert_new(feedback.handle(new.sparkSession), new, SIGNAL_KEY)


def _checked(signals: DataFrame, pipeline: Pipeline) -> DataFrame:
    """Return the columns of FEEDBACK, `reason` (why the signal is refused, else null) and `example` (its JSON)."""
    observed_at = F.col("observed_at")
    if isinstance(signals.schema["observed_at"].dataType, StringType):
        observed_at = F.when(observed_at.rlike(_HAS_DATE), observed_at.try_cast("timestamp"))
    parsed = signals.withColumns(
        {
            "example": F.substring(F.to_json(F.struct(*signals.columns)), 1, _EXAMPLE_CHARS),
            "label_set_hash": F.coalesce("label_set_hash", F.lit(pipeline.label_set.hash)),
            "stated_reward": F.col("reward").try_cast("double"),
            "observed_at": observed_at,
            "ingested_at": writes.current_time(),
        }
    )
    decided = _with_decisions(parsed, Lake(pipeline.tables).read(signals.sparkSession, "tags"))
    target = verdict_column(lambda verdict: verdict.target)
    agreement = F.when(F.col("chosen") == (target == 1), 1.0).when(F.col("chosen").isNotNull(), -1.0)
    default_reward = verdict_column(lambda verdict: verdict.reward)
    reward = F.coalesce("stated_reward", default_reward, F.when(target.isNotNull(), agreement))
    checked = decided.withColumn("reason", _refusal_reason()).withColumn("reward", reward)
    is_document = F.col("label").isNull() & F.col("chosen").isNotNull()
    return checked.withColumns({name: F.when(is_document, F.col(name)) for name in _OF_DOCUMENTS})


def _with_decisions(signals: DataFrame, tags: DataFrame) -> DataFrame:
    """Return the signals with the decisions that they are about: null where there is none, and for a late signal."""
    live = tags.where("deleted_at IS NULL")
    propensities = F.col("propensities") if "propensities" in tags.columns else F.lit(None).cast("map<string,double>")
    columns = (KEY, "label_set_hash", "content_hash", "labels", "scores", "model_digest", "tagged_at")
    decisions = live.select(*columns, propensities.alias("propensities"))
    label_sets = live.select("label_set_hash").distinct().withColumn("known_label_set", F.lit(True))
    joined = signals.join(decisions, [KEY, "label_set_hash"], "left").join(label_sets, "label_set_hash", "left")
    decided = joined.withColumns(
        {
            "labels": F.array_sort("labels"),
            "chosen": F.col("label").isNull() | F.array_contains("labels", F.col("label")),
            "score": F.try_element_at("scores", F.col("label")),
            "propensity": F.try_element_at("propensities", F.col("label")),
        }
    )
    in_time = F.col("observed_at") >= F.col("tagged_at")
    decided = decided.withColumn("known_label", F.col("label").isNull() | F.col("score").isNotNull())
    return decided.withColumns({name: F.when(in_time, F.col(name)) for name in _NULL_IF_LATE})


def _refusal_reason() -> Column:
    """Return why a signal is refused; null if it is not."""
    reason = F.when(F.lit(False), "")
    for name in ("doc_id", "source"):
        reason = reason.when(F.coalesce(F.trim(name), F.lit("")) == "", f"{name} is empty")
    needs_reward = verdict_column(lambda verdict: verdict.states_reward)
    stated = F.col("stated_reward")
    invalid_reward = stated.isNull() | F.isnan(stated) | ~stated.between(-1.0, 1.0)
    return (
        reason.when(needs_reward.isNull(), "unknown verdict")
        .when(F.col("label").isNull() & (F.col("verdict") == "corrected"), "corrected needs a label")
        .when(F.col("observed_at").isNull(), "observed_at is no time, such as 2026-03-01T08:00:00Z")
        .when(F.col("reward").isNull() & needs_reward, "the verdict needs a reward")
        .when(F.col("reward").isNotNull() & invalid_reward, "reward is no number from -1 to 1")
        .when(F.col("known_label_set").isNull(), "unknown label_set_hash")
        .when(F.col("tagged_at").isNull(), "unknown doc_id")
        .when(F.size("scores") == 0, "the document could not be scored")
        .when(~F.col("known_label"), "unknown label")
    )


def _refused_by_reason(checked: DataFrame) -> dict[str, RefusedSignals]:
    """Return the refused signals by reason, the most frequent first."""
    rows = checked.where("reason IS NOT NULL").groupBy("reason").agg(F.count("*"), F.min("example")).collect()
    return {reason: RefusedSignals(count, example) for reason, count, example in sorted(rows, key=lambda row: -row[1])}


def _distinct(signals: DataFrame) -> DataFrame:
    """Return one row per signal; of several that differ in the reward alone, the one with the lowest."""
    lowest_first = Window.partitionBy(*SIGNAL_KEY).orderBy("reward")
    ranked = signals.withColumn(_RANK, F.row_number().over(lowest_first))
    return ranked.where(F.col(_RANK) == 1).drop(_RANK)
