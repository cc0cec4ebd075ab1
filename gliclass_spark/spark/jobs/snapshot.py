"""What a retraining learns from, taken out of the tables once: decisions, what came of them, and the texts.

The folder is all that the training sees, without Spark. `feedback.parquet` (a folder of parts) holds one
row for each decision that something is known about, of the pipeline's present label set:

    doc_id string, text string, label string
    target tinyint          1: the label holds, 0: it does not, null: nobody said
    reward float            in [-1, 1]: how good the decision was; null if it is not known
    chosen boolean          whether the document was given the label; null for a late signal
    propensity double       how probable it was that it would be given; null without exploration, or late
    score float             what the model said; null if late
    observed_at timestamp   of the newest signal
    held_out boolean        kept for the gate: documents newly told about, each with all of its decisions

`gliclass_spark.feedback.verdicts` says how signals become target and reward. `snapshot.json`, which is written last,
says what it was taken from: `label_set` (an object, as LabelSet reads it), `tables` (the path and the Delta
version of feedback, tags and source; the version is null where a source has none), `counts`, `exploration`
(the share), `created_at`.
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
from gliclass_spark.spark.delta.change_feed import DeltaAddress
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.delta.tables import Lake
from gliclass_spark.spark.jobs.pipeline_run import reporting_spark_errors
from gliclass_spark.spark.session import temporary_settings
from gliclass_spark.spark.source import Documents, with_content
from gliclass_spark.spark.transforms.signals import join_signals

MAX_DOCUMENTS = 100_000
# Of Spark's three ways to write a time into Parquet, the one that every other reader knows.
_PARQUET = {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS"}
_COLUMNS = ("doc_id", "text", "label", "target", "reward", "chosen", "propensity", "score", "observed_at", "held_out")


@dataclass(frozen=True)
class Snapshot:
    """What snapshot.json says.

    counts: `signals` of this label set, of these `late`; the `decisions` that they are about, of these
    `contradicting`, `stale` (the text has changed since), `gone` (the document is no more), `unknown` (nothing
    is left of what was said) and `older` (of documents behind the newest that were asked for); and the
    `rows`, `documents` and `held_out` documents that were written.
    """

    folder: str
    label_set: dict[str, Any]
    tables: dict[str, dict[str, Any]]
    counts: dict[str, int]
    exploration: float
    created_at: str


def snapshot(
    spark: SparkSession, pipeline: Pipeline, folder: str, holdout_share: float, max_documents: int = MAX_DOCUMENTS
) -> Snapshot:
    """Write the decisions of the newest `max_documents` documents into `folder`; what a folder has stays as it is.

    Of these, the share `holdout_share` whose first signals are newest, at least one and not all, is held out.
    Raises TableError if there is no feedback, no tags, or no source.
    """
    if not 0.0 < holdout_share < 1.0:
        raise ConfigError(f"holdout_share {holdout_share} is no share; give one between 0 and 1")
    about = f"{folder.rstrip('/')}/snapshot.json"
    known = file_system.read_text(spark, about)
    if known is not None:
        return Snapshot(folder=folder, **json.loads(known))
    with reporting_spark_errors(f"the snapshot of pipeline {pipeline.name!r}"), temporary_settings(spark, _PARQUET):
        versions = _pinned(spark, pipeline)
        feedback = _at(spark, versions, "feedback").where(F.col("label_set_hash") == pipeline.label_set.hash)
        decisions = _with_fate(join_signals(feedback), _texts(spark, pipeline, versions)).persist(
            StorageLevel.MEMORY_AND_DISK
        )
        chosen = _newest(decisions.where("fate = 'kept'"), holdout_share, max_documents)
        path = f"{folder.rstrip('/')}/feedback.parquet"
        aside = file_system.beside(path)
        chosen.select(*_COLUMNS).write.parquet(aside)
        file_system.move(spark, aside, path)
        counts = _counts(decisions, spark.read.parquet(path))
        decisions.unpersist()
    facts = {
        "label_set": json.loads(pipeline.label_set.canonical_json),
        "tables": versions,
        "counts": counts,
        "exploration": pipeline.exploration,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    file_system.write_text(spark, about, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return Snapshot(folder=folder, **facts)


def _pinned(spark: SparkSession, pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """Each table's path and present version."""
    lake, documents = Lake(pipeline.tables), Documents(spark, pipeline.source)
    addresses = {"feedback": lake.address("feedback"), "tags": lake.address("tags"), "source": documents.delta}
    return {
        name: {
            "path": address.name if address is not None else documents.name,
            "version": address.latest(spark).until if address is not None else None,
        }
        for name, address in addresses.items()
    }


def _at(spark: SparkSession, versions: Mapping[str, Mapping[str, Any]], table: str) -> DataFrame:
    return DeltaAddress(path=versions[table]["path"]).read(spark, versions[table]["version"])


def _texts(spark: SparkSession, pipeline: Pipeline, versions: Mapping[str, Mapping[str, Any]]) -> DataFrame:
    """doc_id, present_hash and text of the documents whose tags stand."""
    documents = Documents(spark, pipeline.source).read(versions["source"]["version"])
    tags = _at(spark, versions, "tags").where("deleted_at IS NULL")
    standing = tags.where(F.col("label_set_hash") == pipeline.label_set.hash).select(KEY)
    contents = with_content(documents, pipeline.source.text).withColumnRenamed("content_hash", "present_hash")
    return contents.join(standing, KEY, "left_semi")


def _with_fate(decisions: DataFrame, texts: DataFrame) -> DataFrame:
    """The decisions with their texts, and why one is left out: `fate` is "kept", or a name of Snapshot.counts."""
    fate = (
        F.when(F.col("present_hash").isNull(), "gone")
        .when(F.col("present_hash") != F.col("content_hash"), "stale")
        .when(F.col("target").isNull() & F.col("reward").isNull(), "unknown")
        .otherwise("kept")
    )
    about = decisions.select(KEY).distinct()
    return decisions.join(texts.join(about, KEY, "left_semi"), KEY, "left").withColumn("fate", fate)


def _newest(decisions: DataFrame, holdout_share: float, max_documents: int) -> DataFrame:
    """The decisions of the newest documents, in the types of the file, marked if they are held out.

    Held out are those whose first signal is newest: an earlier retraining may have learned from the others.
    """
    newest = decisions.groupBy(KEY).agg(F.max("observed_at").alias("newest"), F.min("first_at").alias("first"))
    newest = newest.orderBy(F.desc("newest"), KEY).limit(max_documents)
    count = newest.count()
    held_out = min(max(round(holdout_share * count), 1), count - 1)
    place = F.row_number().over(Window.orderBy(F.desc("first"), KEY))
    ranked = newest.select(KEY, (place <= held_out).alias("held_out"))
    types = {"text": "string", "target": "tinyint", "reward": "float"}
    return decisions.join(ranked, KEY).withColumns({name: F.col(name).cast(kind) for name, kind in types.items()})


def _counts(decisions: DataFrame, written: DataFrame) -> dict[str, int]:
    fates = {row["fate"]: row["count"] for row in decisions.groupBy("fate").count().collect()}
    totals = decisions.agg(
        F.coalesce(F.sum("signals"), F.lit(0)),
        F.coalesce(F.sum("late"), F.lit(0)),
        F.count("*"),
        F.count_if("contradicting"),
    )
    signals, late, total, contradicting = totals.collect()[0]
    held_out = F.count_distinct(F.when(F.col("held_out"), F.col(KEY)))
    rows, documents, held = written.agg(F.count("*"), F.count_distinct(KEY), held_out).collect()[0]
    left_out = {name: fates.get(name, 0) for name in ("stale", "gone", "unknown")}
    return {
        "signals": signals,
        "late": late,
        "decisions": total,
        "contradicting": contradicting,
        **left_out,
        "older": fates.get("kept", 0) - rows,
        "rows": rows,
        "documents": documents,
        "held_out": held,
    }
