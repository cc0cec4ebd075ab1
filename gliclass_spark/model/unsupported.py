"""What the published configuration can ask for and we don't have: refused by name, never loaded half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gliclass_spark.errors import CheckpointError

# Options that would change the scores: the values that change nothing, and what to use instead of any other.
_OPTIONS: dict[str, tuple[tuple[Any, ...], str]] = {
    "squeeze_layers": ((False, None), "the published library can't run it either; train the checkpoint without it"),
    "multimodal": ((False, None), "use a checkpoint that reads text alone"),
    "use_embedding_projection": ((False, None), "use a checkpoint over another encoder"),
    "recurrent_steps": ((1, None), "use a checkpoint that reads once"),
}


def refuse_unsupported(document: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a config.json that asks for such an option."""
    for key, (harmless, instead) in _OPTIONS.items():
        if document.get(key) not in harmless:
            raise CheckpointError(f"config.json asks for {key}={document[key]!r}, which is not supported; {instead}")
