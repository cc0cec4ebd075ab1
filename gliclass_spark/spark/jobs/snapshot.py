"""The snapshot of a retraining: decisions with feedback, and the texts that they are about, as files.

The folder is all that the training reads, without Spark. `feedback.parquet` (a folder of parts) holds one
row for each decision with feedback, of the pipeline's current label set:

    doc_id string, text string, label string
    target tinyint          1: the label holds, 0: it does not, null: unknown
    reward float            in [-1, 1]: how good the decision was; null if unknown
    chosen boolean          whether the document got the label; null for a late signal
    propensity double       the probability that it would get the label; null without exploration, or late
    score float             the model's score; null if late
    observed_at timestamp   of the latest signal
    held_out boolean        reserved for the gate: documents with the latest first signals, with all their decisions

`gliclass_spark.feedback.verdicts` defines how signals become target and reward. `snapshot.json` is written
last: `label_set` (an object that LabelSet reads), `tables` (the path and the Delta version of feedback,
tags and source; the version is null for a source without versions), `counts`, `exploration` (the share),
`created_at`, `holdout_share`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError
from gliclass_spark.spark.delta import file_system
from gliclass_spark.spark.delta.lake import Lake
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.session import temporary_settings
from gliclass_spark.spark.source import Documents, with_content
from gliclass_spark.spark.spark_errors import reporting_spark_errors
from gliclass_spark.spark.transforms.signals import join_signals

MAX_DOCUMENTS = 100_000
# Of Spark's three ways to write a time into Parquet, the one that every other reader knows.
_PARQUET = {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS"}
_COLUMNS = ("doc_id", "text", "label", "target", "reward", "chosen", "propensity", "score", "observed_at", "held_out")


@dataclass(frozen=True)
class Snapshot:
    """The contents of snapshot.json.

    counts: `signals` of this label set, of these `late`; the `decisions` that they are about, of these
    `contradicting`, `stale` (the text has changed since), `gone` (the document was deleted), `unknown`
    (neither target nor reward is known) and `older` (of documents beyond `max_documents`); and the
    `rows`, `documents` and `held_out` documents that were written. holdout_share: None in one of an earlier version.
    """

    folder: str
    label_set: dict[str, Any]
    tables: dict[str, dict[str, Any]]
    counts: dict[str, int]
    exploration: float
    created_at: str
    holdout_share: float | None = None


def snapshot(
    spark: SparkSession, pipeline: Pipeline, folder: str, holdout_share: float, max_documents: int = MAX_DOCUMENTS
) -> Snapshot:
    """Write the decisions of the `max_documents` documents with the latest signals into `folder`.

    A folder that has a snapshot keeps it. The share `holdout_share` of the documents, at least one and not
    all, is held out: those with the latest first signals. Raises TableError if there is no feedback, no
    tags, or no source, and ConfigError if the share is not between 0 and 1, or if the folder has a snapshot of
    another label set or share.
    """
    if not 0.0 < holdout_share < 1.0:
        raise ConfigError(f"holdout_share {holdout_share} is no share; give one between 0 and 1")
    json_path = f"{folder.rstrip('/')}/snapshot.json"
    existing = file_system.read_text(spark, json_path)
    if existing is not None:
        return _with_settings(Snapshot(folder=folder, **json.loads(existing)), pipeline, holdout_share)
    with reporting_spark_errors(f"the snapshot of pipeline {pipeline.name!r}"), temporary_settings(spark, _PARQUET):
        versions = _current_versions(spark, pipeline)
        feedback = _read(spark, pipeline, versions, "feedback")
        signals = join_signals(feedback.where(F.col("label_set_hash") == pipeline.label_set.hash))
        decisions = _with_status(signals, _texts(spark, pipeline, versions)).persist(StorageLevel.MEMORY_AND_DISK)
        selected = _select_latest(decisions.where("status = 'kept'"), holdout_share, max_documents)
        path = f"{folder.rstrip('/')}/feedback.parquet"
        temporary = file_system.temporary_path(path)
        selected.select(*_COLUMNS).write.parquet(temporary)
        file_system.move(spark, temporary, path)
        counts = _counts(decisions, spark.read.parquet(path))
        decisions.unpersist()
    content = {
        "label_set": json.loads(pipeline.label_set.canonical_json),
        "tables": versions,
        "counts": counts,
        "exploration": pipeline.exploration,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "holdout_share": holdout_share,
    }
    file_system.write_text(spark, json_path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return Snapshot(folder=folder, **content)


def _with_settings(existing: Snapshot, pipeline: Pipeline, holdout_share: float) -> Snapshot:
    """Return the snapshot. Raises ConfigError if it was taken with other settings."""
    changed = []
    if existing.label_set != json.loads(pipeline.label_set.canonical_json):
        changed.append("label set")
    if existing.holdout_share not in (None, holdout_share):
        changed.append("holdout_share")
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


def _texts(spark: SparkSession, pipeline: Pipeline, versions: Mapping[str, Mapping[str, Any]]) -> DataFrame:
    """Return doc_id, current_hash and text of the documents that have tags of the pipeline's label set."""
    documents = Documents(spark, pipeline.source).read(versions["source"]["version"])
    tags = _read(spark, pipeline, versions, "tags").where("deleted_at IS NULL")
    tagged = tags.where(F.col("label_set_hash") == pipeline.label_set.hash).select(KEY)
    contents = with_content(documents, pipeline.source.text).withColumnRenamed("content_hash", "current_hash")
    return contents.join(tagged, KEY, "left_semi")


def _with_status(decisions: DataFrame, texts: DataFrame) -> DataFrame:
    """Return the decisions with their texts and `status`: "kept", or the name in Snapshot.counts of why it is not."""
    status = (
        F.when(F.col("current_hash").isNull(), "gone")
        .when(F.col("current_hash") != F.col("content_hash"), "stale")
        .when(F.col("target").isNull() & F.col("reward").isNull(), "unknown")
        .otherwise("kept")
    )
    ids = decisions.select(KEY).distinct()
    return decisions.join(texts.join(ids, KEY, "left_semi"), KEY, "left").withColumn("status", status)


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


def _counts(decisions: DataFrame, written: DataFrame) -> dict[str, int]:
    by_status = {row["status"]: row["count"] for row in decisions.groupBy("status").count().collect()}
    totals = decisions.agg(
        F.coalesce(F.sum("signals"), F.lit(0)),
        F.coalesce(F.sum("late"), F.lit(0)),
        F.count("*"),
        F.count_if("contradicting"),
    )
    signals, late, total, contradicting = totals.collect()[0]
    held_out = F.count_distinct(F.when(F.col("held_out"), F.col(KEY)))
    rows, documents, held_out_count = written.agg(F.count("*"), F.count_distinct(KEY), held_out).collect()[0]
    left_out = {name: by_status.get(name, 0) for name in ("stale", "gone", "unknown")}
    return {
        "signals": signals,
        "late": late,
        "decisions": total,
        "contradicting": contradicting,
        **left_out,
        "older": by_status.get("kept", 0) - rows,
        "rows": rows,
        "documents": documents,
        "held_out": held_out_count,
    }
