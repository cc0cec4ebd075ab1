"""The retraining "pets" of the tests: its labels, gates, decisions and snapshot."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.retraining.promotion import open_retraining
from gliclass_spark.retraining.steps import Retraining

KINDS = ("cat", "dog", "owl")
LENIENT = {
    "max_f1_loss": 1.0,
    "max_label_loss": 1.0,
    "max_calibration_loss": 1.0,
    "max_reward_loss": 1.0,
    "max_slowdown": 1000.0,
}
STRICT = {**LENIENT, "min_f1_gain": 1.0}
WriteConfig = Callable[..., RetrainConfig]


def decisions() -> list[dict[str, Any]]:
    """Return decisions by chance of 1/2, each rewarded if it was right."""
    return [
        {
            "doc_id": f"{number}",
            "text": f"a {KINDS[number % 3]} {number}",
            "label": label,
            "target": int(label == KINDS[number % 3]),
            "reward": 1.0 if (label == KINDS[number % 3]) == (number % 2 == 0) else -1.0,
            "chosen": number % 2 == 0,
            "propensity": 0.5,
            "score": 0.5,
            "held_out": number >= 20,
        }
        for number in range(30)
        for label in KINDS
    ]


def rewarded_documents() -> list[dict[str, Any]]:
    """Return documents with one reward for all labels, which were decided by chance: 1 for the right one alone."""
    documents = []
    for number in range(30):
        labels = [kind for position, kind in enumerate(KINDS) if number >> position & 1]
        documents.append(
            {
                "doc_id": f"{number}",
                "text": f"a {KINDS[number % 3]} {number}",
                "labels": labels,
                "reward": 1.5 - len(labels) / 2 if KINDS[number % 3] in labels else -0.5,
                "scores": [(kind, 0.5) for kind in KINDS],
                "propensities": [(kind, 0.5) for kind in KINDS],
                "held_out": number >= 20,
            }
        )
    return documents


def write_documents(config: RetrainConfig, documents: list[dict[str, Any]], run_id: str = "r") -> None:
    """Add documents with one reward to the snapshot."""
    folder = config.run_folder(run_id) / "snapshot"
    maps = [(name, pa.map_(pa.string(), pa.float64())) for name in ("scores", "propensities")]
    texts = [("doc_id", pa.string()), ("text", pa.string()), ("labels", pa.list_(pa.string()))]
    others = [("held_out", pa.bool_()), ("model_digest", pa.string())]
    schema = pa.schema([*texts, ("reward", pa.float32()), *maps, *others])
    pq.write_table(pa.Table.from_pylist(documents, schema), folder / "documents.parquet")
    about = json.loads((folder / "snapshot.json").read_text())
    about["counts"]["rewarded_documents"] = len(documents)
    (folder / "snapshot.json").write_text(json.dumps(about))


def write_snapshot(config: RetrainConfig, run_id: str, rows: list[dict[str, Any]]) -> None:
    folder = config.run_folder(run_id) / "snapshot"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "feedback.parquet")
    label_set = json.loads(config.pipeline.label_set.canonical_json)
    tables = {"feedback": {"path": "lake/feedback", "version": 3}}
    about = {
        "label_set": label_set,
        "tables": tables,
        "counts": {"rows": len(rows), "signals": len(rows)},
        "exploration": 0.5,
        "created_at": "2026-01-01T00:00:00",
    }
    (folder / "snapshot.json").write_text(json.dumps(about))


def opened(config: RetrainConfig, run_id: str = "r") -> Retraining:
    return open_retraining(config, run_id, lambda step, updates, metrics: None)


def aliases(registry: Registry) -> dict[str, int]:
    return {alias: version.number for version in registry.versions("pets") for alias in version.aliases}
