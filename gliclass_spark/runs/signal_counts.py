"""Signals about a pipeline's label sets, counted without Spark: those that its retraining would learn from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gliclass_spark.config.catalog import table_path
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.runs.delta_reader import StorageOptions, delta_table, query, table_exists
from gliclass_spark.runs.history import used_label_sets


def query_signals(pipeline: Pipeline, sql: str, storage_options: StorageOptions = None) -> list[dict[str, Any]]:
    """Return the rows of a query on the signals about the pipeline's present label set and its earlier ones.

    In the query they are named `signals`: the columns of `feedback`, `has_label` (whether the present label set has the
    label) and `is_earlier` (whether the signal is about an earlier one). There are no rows without a table `feedback`.
    Raises TableError if it can't be read.
    """
    path = table_path(pipeline.tables, "feedback")
    if not table_exists(path, storage_options):
        return []
    label_set = pipeline.label_set
    earlier = used_label_sets(table_path(pipeline.tables, "runs"), pipeline.name, storage_options)
    hashes, labels = (", ".join(map(_quoted, names)) for names in (sorted({label_set.hash, *earlier}), label_set.names))
    signals = (
        f"select *, label in ({labels}) as has_label, label_set_hash <> {_quoted(label_set.hash)} as is_earlier "  # noqa: S608 - quoted
        f"from t where label_set_hash in ({hashes})"
    )
    return query(delta_table(path, storage_options=storage_options), f"with signals as ({signals}) {sql}")


def count_signals(pipeline: Pipeline, storage_options: StorageOptions = None) -> int:
    """Return the number of signals about the pipeline's labels, by its present label set and its earlier ones."""
    rows = query_signals(pipeline, "select count(*) as signals from signals where has_label", storage_options)
    return int(rows[0]["signals"]) if rows else 0


def signals_trained_on(config: RetrainConfig) -> int:
    """Return the number of signals of the last finished retraining with the same labels, whatever the thresholds."""
    counts = [0]
    for marker in Path(config.work).glob("*/promote.json"):
        snapshot = json.loads((marker.parent / "snapshot" / "snapshot.json").read_text(encoding="utf-8"))
        if asks_the_same(snapshot, config):
            counts.append(snapshot["counts"]["signals"])
    return max(counts)


def asks_the_same(snapshot: Mapping[str, Any], config: RetrainConfig) -> bool:
    """Return whether a snapshot.json is about the labels that the pipeline has now."""
    label_set = config.pipeline.label_set
    if "question_hash" in snapshot:
        return bool(snapshot["question_hash"] == label_set.question_hash)
    # One of an earlier version.
    return bool(snapshot["label_set"] == json.loads(label_set.canonical_json))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
