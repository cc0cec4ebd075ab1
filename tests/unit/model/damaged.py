"""Changes to checkpoints that make them invalid or different."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import CheckpointError
from gliclass_spark.model import checkpoint

MISSING = object()


def reconfigure(folder: Path, **changes: Any) -> None:
    """Change config.json; MISSING removes a key."""
    path = folder / "config.json"
    document = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(
        json.dumps({key: value for key, value in document.items() if value is not MISSING}), encoding="utf-8"
    )


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the weights of model.safetensors."""
    state = {name: weight.clone() for name, weight in load_file(folder / checkpoint.WEIGHTS).items()}
    change(state)
    save_file(state, folder / checkpoint.WEIGHTS)


def refusal(folder: Path, *, of: type[Exception] = CheckpointError) -> str:
    """Return the message of the error that loading the checkpoint raises."""
    with pytest.raises(of) as refused:
        checkpoint.load(resolve_model(str(folder)))
    return str(refused.value)
