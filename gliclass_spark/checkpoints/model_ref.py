"""A resolved checkpoint: its URI, local folder and digest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ModelRef:
    """A checkpoint, resolved once, that a job sends to its workers.

    uri: the model URI as the user wrote it. folder: its files on this machine. digest: SHA-256 of weights,
    configuration and tokenizer. pinned: a URI that always names these files, where there is one: org/name@commit
    for a hub id. registry: the MLflow tracking URI that was passed to `resolve_model`; None for the environment's.

    Another machine finds the same files with `resolve_model(pinned or uri, digest, registry)`, also after an alias
    or a branch has moved.
    """

    uri: str
    folder: Path
    digest: str
    pinned: str | None = None
    registry: str | None = field(default=None, repr=False)  # its URI may hold a password
