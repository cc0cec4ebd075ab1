"""Configuration files of a pipeline with a registered model, and of its retraining; the id of a run of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

RUN = "scheduled__2026-11-22T04:00:00+00:00"


def write_pipeline(folder: Path, model: str = "models:/mail@champion") -> Path:
    document = {
        "name": "mail",
        "source": {"path": "mail", "id": "id", "text": "body"},
        "label_set": ["spam", "lake"],
        "model": model,
        "tables": "lake",
        "exploration": 0.5,
        "steps": ["tag"],
    }
    (folder / "mail.yaml").write_text(yaml.safe_dump(document))
    return folder / "mail.yaml"


def write_retraining(folder: Path, name: str = "mail", **parts: Any) -> Path:
    """Write the retraining of that pipeline into the folder `retrain`."""
    document = {
        "pipeline": "../mail.yaml",
        "golden": "../golden.jsonl",
        "work": "../work",
        "min_decisions": 3,
        "airflow": {},
        **parts,
    }
    (folder / "retrain").mkdir(exist_ok=True)
    (folder / "retrain" / f"{name}.yaml").write_text(yaml.safe_dump(document))
    return folder / "retrain" / f"{name}.yaml"
