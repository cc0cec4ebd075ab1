"""The tasks of a retraining's DAG, and the files that its steps leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from airflow.sdk import DAG, Asset
from retraining_files import RUN

from gliclass_spark.airflow.dags.retraining_dag import retrain_dag
from gliclass_spark.airflow.operators.training_step import TrainingStep
from gliclass_spark.config.retraining import RetrainConfig


def dag_of(file: Path) -> DAG:
    return retrain_dag(file, RetrainConfig.from_yaml(file))


def stand_in(file: Path, program: str, step: str = "gate") -> TrainingStep:
    """Return a step's task that runs this program instead of the job."""
    task = dag_of(file).get_task(step)
    task.run_id, task.application = RUN, str(file.parent / "application.py")
    Path(task.application).write_text(program)
    return task


class Events(dict[Any, Any]):
    """Stand-in for Airflow's outlet events of a task."""

    def __missing__(self, alias: Any) -> Any:
        self[alias] = events = AssetEvents()
        return events


class AssetEvents(list[tuple[str, dict[str, Any]]]):
    def add(self, asset: Asset, extra: dict[str, Any]) -> None:
        self.append((asset.name, extra))


def write_snapshot(folder: Path, rows: list[tuple[Any, ...]], label_set: Any, signals: int = 3) -> None:
    columns = ("doc_id", "text", "label", "target", "reward", "chosen", "propensity", "score", "held_out")
    types = dict(zip(columns, [*["string"] * 3, "int8", "float", "bool", *["double"] * 2, "bool"], strict=True))
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in types.items()])
    table = pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], schema)
    pq.write_table(table, folder / "snapshot" / "feedback.parquet")
    facts = {"label_set": json.loads(label_set.canonical_json), "counts": {"signals": signals}}
    (folder / "snapshot" / "snapshot.json").write_text(json.dumps(facts))


def write_check(folder: Path, **facts: Any) -> None:
    """Write the outcome of a champion check."""
    check = {"harm": False, "rolled_back": False, "message": "found", "champion": "2" * 64, "decisions": 40}
    (folder / "champion_check.json").write_text(json.dumps({**check, "version": 2, "previous": 1, **facts}))


def feedback_of(hashes: list[str], label: str = "spam") -> pa.Table:
    return pa.table({"label_set_hash": hashes, "label": [label] * len(hashes)})
