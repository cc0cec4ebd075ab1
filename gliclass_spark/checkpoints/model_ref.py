"""A resolved checkpoint: its URI, local folder and digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModelRef:
    """A checkpoint, resolved once: the address that the user gave, where its files are, and their digest.

    `digest` is the SHA-256 of weights, configuration and tokenizer. It travels with a job, so that
    every worker scores with the very same model: `resolve_model(uri, digest)` finds it again, even if the
    address is an alias that has moved meanwhile. `pinned` is an address of these very files where the
    user's own may come to stand for others, and there is one: org/name@commit for a hub id.
    """

    uri: str
    folder: Path
    digest: str
    pinned: str | None = None
