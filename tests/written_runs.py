"""Manifests of runs, written to a `runs` table without Spark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.manifest import Manifest, VersionRange

START = datetime(2026, 3, 1, 2, tzinfo=UTC)
COUNTS = pa.map_(pa.string(), pa.int64())
RANGE = pa.struct([("table_id", pa.string()), ("since", pa.int64()), ("until", pa.int64())])
MAPS = {
    **dict.fromkeys(("rejected", "routed", "errors", "label_counts"), COUNTS),
    "score_histograms": pa.map_(pa.string(), pa.list_(pa.int64())),
    "step_seconds": pa.map_(pa.string(), pa.float64()),
    **dict.fromkeys(("inputs", "outputs"), pa.map_(pa.string(), RANGE)),
}


def pipeline(folder: Path) -> Pipeline:
    source = {"path": str(folder / "mail"), "id": "id", "text": "body"}
    return Pipeline.model_validate(
        {"name": "mail", "source": source, "label_set": ["spam"], "tables": str(folder / "lake")}
    )


# What the rows record of this pipeline's settings.
SETTINGS = {
    "label_set_hash": pipeline(Path("/")).label_set.hash,
    "rules_hash": pipeline(Path("/")).rules.hash,
    "model": pipeline(Path("/")).model,
}


def manifest(job: str, run_id: str = "run-1", status: str = "succeeded", **facts: Any) -> Manifest:
    day = int(run_id.rsplit("-", 1)[1])
    started = START + timedelta(days=day, minutes=("tag", "filter", "route").index(job))
    defaults: dict[str, Any] = {
        "sequence": day,
        "started_at": started,
        "finished_at": started + timedelta(seconds=30),
        **dict.fromkeys(("source", "label_set", "settings_hash"), "x"),
        **SETTINGS,
    }
    return Manifest(run_id, "mail", job, status, **{**defaults, **facts})


def run_manifests(number: int = 1) -> list[Manifest]:
    run_id = f"run-{number}"
    outputs = {name: VersionRange("id", None, 0) for name in ("kept", "rejected", "quarantined")}
    return [
        manifest("tag", run_id, rows_in=3, tagged=3, documents=3, label_counts={"spam": 1}),
        manifest("filter", run_id, rows_in=3, kept=2, rejected={"it's spam": 1}, quarantined=0, outputs=outputs),
        manifest("route", run_id, rows_in=2, routed={"unrouted": 2}, routed_documents=2),
    ]


def write_runs(folder: Path, rows: Sequence[Manifest]) -> None:
    columns: dict[str, pa.Array] = {}
    for name in Manifest.__dataclass_fields__:
        values = [asdict(row)[name] for row in rows]
        values = [list(value.items()) for value in values] if name in MAPS else values
        columns[name] = pa.array(values, MAPS.get(name))
        if pa.types.is_null(columns[name].type):
            columns[name] = pa.array(values, pa.int64() if name != "message" else pa.string())
    write_deltalake(str(folder / "lake" / "runs"), pa.table(columns), mode="append")
