"""The snapshot of a retraining: decisions with feedback, and the texts that they are about, as files.

The folder is all that the training reads, without Spark. `feedback.parquet` (a folder of parts) holds one
row for each decision with feedback, about a label of the pipeline's label set. A label set that changes keeps its
feedback: signals about earlier label sets of the pipeline, which `runs` knows, count for the labels that are left.

    doc_id string, text string, label string
    target tinyint          1: the label holds, 0: it does not, null: unknown
    reward float            in [-1, 1]: how good the decision was; null if unknown
    chosen boolean          whether the document got the label; null for a late signal
    propensity double       the probability that it would get the label; null without exploration, or late
    score float             the model's score; null if late
    model_digest string     the model that decided; null if late
    observed_at timestamp   of the latest signal
    held_out boolean        reserved for the gate: documents with the latest first signals, with all their decisions

`documents.parquet`, if there is feedback without a label, holds one row for each document whose labels were rewarded
together: doc_id, text, reward, model_digest, observed_at and held_out as above, and

    labels array<string>             the labels that the document got
    scores map<string,float>         the model's score of each label that it might have got
    propensities map<string,double>  the probability of each that it would get it; null without exploration

`gliclass_spark.feedback.verdicts` defines how signals become target and reward. `snapshot.json` is written last:
`label_set` (an object that LabelSet reads) and its `question_hash`, `tables` (the path and the Delta version of
feedback, tags and source; the version is null for a source without versions), `counts`, `exploration` (the share),
`created_at`, `holdout_share`, `resolve`.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError
from gliclass_spark.feedback.signal_join import Resolve
from gliclass_spark.spark.delta import file_system
from gliclass_spark.spark.delta.lake import Lake
from gliclass_spark.spark.delta.runs_table import Runs
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.session import temporary_settings
from gliclass_spark.spark.source import Documents, with_content
from gliclass_spark.spark.spark_errors import reporting_spark_errors
from gliclass_spark.spark.transforms.signals import join_signals, with_current_columns

logger = logging.getLogger(__name__)

MAX_DOCUMENTS = 100_000
# Of Spark's three ways to write a time into Parquet, the one that every other reader knows.
_PARQUET = {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS"}
_COLUMNS = (
    *("doc_id", "text", "label", "target", "reward", "chosen", "propensity", "score", "model_digest"),
    *("observed_at", "held_out"),
)
_DOCUMENT_COLUMNS = (
    *("doc_id", "text", "labels", "reward", "scores", "propensities", "model_digest"),
    *("observed_at", "held_out"),
)


@dataclass(frozen=True)
class Snapshot:
    """The contents of snapshot.json.

    counts: `signals` about labels of the label set, of these `late`, and `mapped` from earlier label sets; `dropped`
    signals about labels that it no longer has; the `decisions` that they are about, of these `contradicting`, `stale`
    (the text has changed since), `gone` (the document was deleted), `unknown` (neither target nor reward is known, or
    the reward of a document's labels and not the labels), `over_share` (of sources beyond `max_source_share`) and
    `older` (of documents beyond `max_documents`); and the `rows` (decisions), of these `rewarded_documents`, the
    `documents` and the `held_out` documents that were written. holdout_share, question_hash: None in one of an earlier
    version. resolve: "newest" in one.
    """

    folder: str
    label_set: dict[str, Any]
    tables: dict[str, dict[str, Any]]
    counts: dict[str, int]
    exploration: float
    created_at: str
    holdout_share: float | None = None
    question_hash: str | None = None
    resolve: Resolve = "newest"


def snapshot(
    spark: SparkSession,
    pipeline: Pipeline,
    folder: str,
    holdout_share: float,
    max_documents: int = MAX_DOCUMENTS,
    max_source_share: float | None = None,
    resolve: Resolve = "newest",
) -> Snapshot:
    """Write the decisions of the `max_documents` documents with the latest signals into `folder`.

    max_source_share: most of the decisions that one source may have the latest say in, see `largest_count`. resolve:
    which of several explicit signals on a decision count, see `feedback.verdicts`.

    A folder that has a snapshot keeps it. The share `holdout_share` of the documents, at least one and not
    all, is held out: those with the latest first signals. Raises TableError if there is no feedback, no
    tags, or no source, and ConfigError if the share is not between 0 and 1, or if the folder has a snapshot of
    another label set, share or `resolve`.
    """
    if not 0.0 < holdout_share < 1.0:
        raise ConfigError(f"holdout_share {holdout_share} is no share; give one between 0 and 1")
    json_path = f"{folder.rstrip('/')}/snapshot.json"
    existing = file_system.read_text(spark, json_path)
    if existing is not None:
        return _with_settings(Snapshot(folder=folder, **json.loads(existing)), pipeline, holdout_share, resolve)
    with reporting_spark_errors(f"the snapshot of pipeline {pipeline.name!r}"), temporary_settings(spark, _PARQUET):
        versions = _current_versions(spark, pipeline)
        own = _label_set_hashes(spark, pipeline)
        feedback = with_current_columns(_read(spark, pipeline, versions, "feedback"))
        signals, signal_counts = _of_current_labels(feedback.where(F.col("label_set_hash").isin(own)), pipeline)
        joined = join_signals(signals, resolve)
        decisions = _with_status(joined, _texts(spark, pipeline, versions, own)).persist(StorageLevel.MEMORY_AND_DISK)
        kept = decisions.where("status = 'kept'")
        limited = kept if max_source_share is None else _limit_sources(kept, max_source_share)
        selected = _select_latest(limited, holdout_share, max_documents)
        counts = _counts(decisions, _write(selected, decisions, folder.rstrip("/")), limited.count()) | signal_counts
        decisions.unpersist()
    content = {
        "label_set": json.loads(pipeline.label_set.canonical_json),
        "tables": versions,
        "counts": counts,
        "exploration": pipeline.exploration,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "holdout_share": holdout_share,
        "question_hash": pipeline.label_set.question_hash,
        "resolve": resolve,
    }
    file_system.write_text(spark, json_path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return Snapshot(folder=folder, **content)


def _write(selected: DataFrame, decisions: DataFrame, folder: str) -> DataFrame:
    """Write the files of the snapshot. Return doc_id, held_out and is_document of their rows."""
    rows = _write_parquet(selected.where("label IS NOT NULL").select(*_COLUMNS), f"{folder}/feedback.parquet")
    written = rows.select(KEY, "held_out", F.lit(False).alias("is_document"))
    if decisions.where("label IS NULL").isEmpty():
        return written
    documents = selected.where("label IS NULL").select(*_DOCUMENT_COLUMNS)
    documents = _write_parquet(documents, f"{folder}/documents.parquet")
    return written.union(documents.select(KEY, "held_out", F.lit(True)))


def _write_parquet(rows: DataFrame, path: str) -> DataFrame:
    """Write the rows as a folder of Parquet, which is complete or absent, and return them as it has them."""
    spark, temporary = rows.sparkSession, file_system.temporary_path(path)
    rows.write.parquet(temporary)
    file_system.move(spark, temporary, path)
    return spark.read.parquet(path)


def _with_settings(existing: Snapshot, pipeline: Pipeline, holdout_share: float, resolve: Resolve) -> Snapshot:
    """Return the snapshot. Raises ConfigError if it was taken with other settings."""
    changed = []
    if existing.label_set != json.loads(pipeline.label_set.canonical_json):
        changed.append("label set")
    if existing.holdout_share not in (None, holdout_share):
        changed.append("holdout_share")
    if existing.resolve != resolve:
        changed.append("feedback.resolve")
    if changed:
        raise ConfigError(
            f"{existing.folder} holds a snapshot with another {' and '.join(changed)}; retrain under a new run id, or "
            "bring the earlier settings back"
        )
    return existing


def _current_versions(spark: SparkSession, pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """Return the path and the latest version of each input table."""
    lake, documents = Lake(pipeline.tables), Documents(spark, pipeline.source)
    tables = {"feedback": lake.table("feedback"), "tags": lake.table("tags"), "source": documents.delta}
    return {
        name: {
            "path": table.name if table is not None else documents.name,
            "version": table.latest(spark).until if table is not None else None,
        }
        for name, table in tables.items()
    }


def _read(spark: SparkSession, pipeline: Pipeline, versions: Mapping[str, Mapping[str, Any]], name: str) -> DataFrame:
    return Lake(pipeline.tables).table(name).read(spark, versions[name]["version"])


def _label_set_hashes(spark: SparkSession, pipeline: Pipeline) -> list[str]:
    """Return the hashes of the label sets that the pipeline has now or that its runs had."""
    earlier = Runs(spark, Lake(pipeline.tables).table("runs"), pipeline.name).label_sets()
    return sorted({pipeline.label_set.hash, *earlier})


def _of_current_labels(feedback: DataFrame, pipeline: Pipeline) -> tuple[DataFrame, dict[str, int]]:
    """Return the signals about labels that the label set has, as if all were about it, and counts of the others.

    What a person says about a label of a document holds whatever thresholds and other labels the set had, and a
    decision keeps the score and the propensity that were logged with it. A signal without a label counts if the label
    set has all labels that the document got.
    """
    names = list(pipeline.label_set.names)
    has_labels = F.coalesce(F.size(F.array_except("labels", F.array(*map(F.lit, names)))) == 0, F.lit(True))
    has_label = F.when(F.col("label").isNull(), has_labels).otherwise(F.col("label").isin(names))
    is_earlier = F.col("label_set_hash") != pipeline.label_set.hash
    [row] = feedback.agg(
        F.count_if(has_label & is_earlier).alias("mapped"), F.count_if(~has_label).alias("dropped")
    ).collect()
    signals = feedback.where(has_label).withColumn("label_set_hash", F.lit(pipeline.label_set.hash))
    return signals, row.asDict()


def _texts(
    spark: SparkSession, pipeline: Pipeline, versions: Mapping[str, Mapping[str, Any]], label_set_hashes: list[str]
) -> DataFrame:
    """Return doc_id, current_hash and text of the documents that have tags of one of the label sets."""
    documents = Documents(spark, pipeline.source).read(versions["source"]["version"])
    tags = _read(spark, pipeline, versions, "tags").where("deleted_at IS NULL")
    tagged = tags.where(F.col("label_set_hash").isin(label_set_hashes)).select(KEY)
    contents = with_content(documents, pipeline.source.text).withColumnRenamed("content_hash", "current_hash")
    return contents.join(tagged, KEY, "left_semi")


def _with_status(decisions: DataFrame, texts: DataFrame) -> DataFrame:
    """Return the decisions with their texts and `status`: "kept", or the name in Snapshot.counts of why it is not."""
    is_unknown = F.col("target").isNull() & F.col("reward").isNull()
    is_unknown |= F.col("label").isNull() & F.col("chosen").isNull()
    status = (
        F.when(F.col("current_hash").isNull(), "gone")
        .when(F.col("current_hash") != F.col("content_hash"), "stale")
        .when(is_unknown, "unknown")
        .otherwise("kept")
    )
    ids = decisions.select(KEY).distinct()
    return decisions.join(texts.join(ids, KEY, "left_semi"), KEY, "left").withColumn("status", status)


def largest_count(counts: Sequence[int], max_share: float) -> int | None:
    """Return how many decisions one source may have, so that none has more than `max_share` of those that are left.

    None if there are too few sources for that: one alone always has all of them.
    """
    if len(counts) * max_share < 1:
        return None

    def is_too_many(limit: int) -> bool:
        return limit > max_share * sum(min(count, limit) for count in counts)

    return bisect_left(range(1, max(counts) + 1), True, key=is_too_many) or None


def _limit_sources(decisions: DataFrame, max_share: float) -> DataFrame:
    """Return the decisions without those that sources have beyond `max_share`, drawn by a hash."""
    counts = [row["count"] for row in decisions.groupBy("source").count().collect()]
    limit = largest_count(counts, max_share)
    if limit is None:
        if counts:
            logger.warning(
                "max_source_share %s can't be met: the feedback has %s source(s); all of it counts",
                max_share,
                len(counts),
            )
        return decisions
    rank = F.row_number().over(Window.partitionBy("source").orderBy(F.xxhash64(KEY, "label"), KEY, "label"))
    return decisions.withColumn("_source_rank", rank).where(F.col("_source_rank") <= limit).drop("_source_rank")


def _select_latest(decisions: DataFrame, holdout_share: float, max_documents: int) -> DataFrame:
    """Return the decisions of the documents with the latest signals, with `held_out`, in the types of the file.

    The documents with the latest first signals are held out: an earlier retraining may have learned from the others.
    """
    documents = decisions.groupBy(KEY).agg(F.max("observed_at").alias("latest"), F.min("first_at").alias("first"))
    documents = documents.orderBy(F.desc("latest"), KEY).limit(max_documents)
    count = documents.count()
    held_out_count = min(max(round(holdout_share * count), 1), count - 1)
    rank = F.row_number().over(Window.orderBy(F.desc("first"), KEY))
    ranked = documents.select(KEY, (rank <= held_out_count).alias("held_out"))
    types = {"text": "string", "target": "tinyint", "reward": "float"}
    return decisions.join(ranked, KEY).withColumns({name: F.col(name).cast(kind) for name, kind in types.items()})


def _counts(decisions: DataFrame, written: DataFrame, limited_count: int) -> dict[str, int]:
    by_status = {row["status"]: row["count"] for row in decisions.groupBy("status").count().collect()}
    totals = decisions.agg(
        F.coalesce(F.sum("signals"), F.lit(0)),
        F.coalesce(F.sum("late"), F.lit(0)),
        F.count("*"),
        F.count_if("contradicting"),
    )
    signals, late, total, contradicting = totals.collect()[0]
    held_out = F.count_distinct(F.when(F.col("held_out"), F.col(KEY)))
    of_written = written.agg(F.count("*"), F.count_if("is_document"), F.count_distinct(KEY), held_out).collect()[0]
    rows, rewarded_documents, documents, held_out_count = of_written
    left_out = {name: by_status.get(name, 0) for name in ("stale", "gone", "unknown")}
    return {
        "signals": signals,
        "late": late,
        "decisions": total,
        "contradicting": contradicting,
        **left_out,
        "over_share": by_status.get("kept", 0) - limited_count,
        "older": limited_count - rows,
        "rows": rows,
        "rewarded_documents": rewarded_documents,
        "documents": documents,
        "held_out": held_out_count,
    }
