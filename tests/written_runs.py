"""Manifests of runs, written to a `runs` table without Spark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa
from deltalake import write_deltalake

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.manifest import Manifest, VersionRange
from gliclass_spark.runs.settings import filter_settings, route_settings, tag_settings

START = datetime(2026, 3, 1, 2, tzinfo=UTC)
RANGE = pa.struct([("table_id", pa.string()), ("since", pa.int64()), ("until", pa.int64())])
TYPES = {
    **{str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()},
    **{datetime: pa.timestamp("us", "UTC"), VersionRange: RANGE},
}


def arrow_type(hint: Any) -> pa.DataType:
    """Return the Arrow type of a field of Manifest."""
    arguments = [argument for argument in get_args(hint) if argument is not type(None)]
    if get_origin(hint) is dict:
        return pa.map_(pa.string(), arrow_type(arguments[1]))
    if get_origin(hint) is list:
        return pa.list_(arrow_type(arguments[0]))
    return arrow_type(arguments[0]) if arguments else TYPES[hint]


def pipeline(folder: Path) -> Pipeline:
    source = {"path": str(folder / "mail"), "id": "id", "text": "body"}
    return Pipeline.model_validate(
        {"name": "mail", "source": source, "label_set": ["spam"], "tables": str(folder / "lake")}
    )


def settings(job: str, model_digest: str | None) -> dict[str, str]:
    """Return what a row of the job records of this pipeline's settings."""
    recorded = pipeline(Path("/"))
    hashes = {
        "tag": tag_settings(recorded, model_digest, "changed"),
        "filter": filter_settings(recorded),
        "route": route_settings(recorded),
    }
    return {
        "label_set_hash": recorded.label_set.hash,
        "rules_hash": recorded.rules.hash,
        "model": recorded.model,
        "settings_hash": hashes[job],
    }


def manifest(job: str, run_id: str = "run-1", status: str = "succeeded", **facts: Any) -> Manifest:
    day = int(run_id.rsplit("-", 1)[1])
    started = START + timedelta(days=day, minutes=("tag", "filter", "route").index(job))
    defaults: dict[str, Any] = {
        "sequence": day,
        "started_at": started,
        "finished_at": started + timedelta(seconds=30),
        **dict.fromkeys(("source", "label_set"), "x"),
        **settings(job, facts.get("model_digest")),
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
    for name, hint in get_type_hints(Manifest).items():
        values = [asdict(row)[name] for row in rows]
        is_map = get_origin(hint) is dict
        columns[name] = pa.array([list(value.items()) for value in values] if is_map else values, arrow_type(hint))
    write_deltalake(str(folder / "lake" / "runs"), pa.table(columns), mode="append")
