"""Signals about the documents of the pipeline `mail`, as files, and the rows of its tables."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from stored_tables import stored_rows

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.spark.delta.lake import Lake

TEXTS = {f"d-{number}": f"document number {number} speaks of a lake" for number in range(6)} | {"blank": " "}
TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
LONG_AGO = "2026-01-01T08:00:00Z"
ZERO = datetime(2026, 3, 1, tzinfo=UTC)


def signal(doc_id: str, label: str, verdict: str, hours: int = 0, **more: Any) -> dict[str, Any]:
    observed_at = (TOMORROW + timedelta(hours=hours)).isoformat()
    return {"doc_id": doc_id, "label": label, "verdict": verdict, "source": "ui", "observed_at": observed_at, **more}


def write_signals(folder: Path, *signals: dict[str, Any], name: str = "signals.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in signals))
    return str(folder / name)


def stored(pipeline: Pipeline, table: str) -> list[dict[str, Any]]:
    return stored_rows(Lake(pipeline.tables).path(table))


def version(spark: SparkSession, pipeline: Pipeline) -> int | None:
    return Lake(pipeline.tables).table("feedback").latest(spark).until
