"""Whether a training may continue from the checkpoints in its folder: only with the settings and data they are from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gliclass_spark import atomic_files
from gliclass_spark.config.training import TrainingConfig
from gliclass_spark.errors import TrainingError
from gliclass_spark.training.data.labelled_text import LabelledSet

_FILE = "training.json"


def data_digest(sets: Sequence[LabelledSet]) -> str:
    """Return a SHA-256, in hexadecimal, of texts, labels and sources in their order."""
    digest = hashlib.sha256()
    for labelled in sets:
        digest.update(json.dumps([labelled.name, labelled.labels, labelled.sources]).encode())
        for text, targets in zip(labelled.texts, labelled.targets, strict=True):
            digest.update(json.dumps([text, targets]).encode())
    return digest.hexdigest()


def flat_settings(config: TrainingConfig) -> dict[str, Any]:
    """Return the settings as JSON has them, those of the sampling under names like `sampling.texts`."""
    settings = config.model_dump(mode="json")
    sampling = settings.pop("sampling")
    return {**settings, **{f"sampling.{name}": value for name, value in sampling.items()}}


def require_same_training(folder: Path, follows_from: Mapping[str, Any]) -> None:
    """Record what a training follows from, or compare it with the record of an earlier one that left checkpoints.

    folder: of the training's checkpoints. follows_from: values as JSON has them. Raises TrainingError, naming the
    values that differ, if the checkpoints are another training's.
    """
    path = folder / _FILE
    folder.mkdir(parents=True, exist_ok=True)
    # A training that failed before its first checkpoint leaves nothing but its record.
    if not path.exists() or list(folder.iterdir()) == [path]:
        atomic_files.write_text(path, json.dumps(follows_from, indent=2) + "\n")
        return
    earlier = json.loads(path.read_text(encoding="utf-8"))
    different = [
        f"{name} {earlier.get(name)!r}, now {follows_from.get(name)!r}"
        for name in sorted({*earlier, *follows_from})
        if earlier.get(name) != follows_from.get(name)
    ]
    if different:
        raise TrainingError(
            f"{folder} has checkpoints of another training: {'; '.join(different)}; give another folder, or remove "
            "this one to start over"
        )
