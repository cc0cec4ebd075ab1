"""Published options that are not supported: refused by name, never ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gliclass_spark.errors import CheckpointError

# Options that would change the scores: the values that change nothing, and what to use instead of any other.
_OPTIONS: dict[str, tuple[tuple[Any, ...], str]] = {
    "squeeze_layers": ((False, None), "the published library can't run it either; train the checkpoint without it"),
    "multimodal": ((False, None), "use a checkpoint for text alone"),
    "use_embedding_projection": ((False, None), "use a checkpoint over another encoder"),
    "recurrent_steps": ((1, None), "use a checkpoint with a single step"),
}


def refuse_unsupported(document: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a config.json that sets such an option."""
    for key, (harmless, alternative) in _OPTIONS.items():
        if document.get(key) not in harmless:
            raise CheckpointError(f"config.json has {key}={document[key]!r}, which is not supported; {alternative}")
