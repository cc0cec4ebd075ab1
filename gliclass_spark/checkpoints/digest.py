"""The digest of a checkpoint: SHA-256 over its files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from gliclass_spark.checkpoints.files import checkpoint_files


def digest_of(folder: Path, source: str | None = None) -> str:
    """Return the SHA-256 of a checkpoint's files. Raises CheckpointError as `checkpoint_files` does."""
    return digest_of_files((name, folder / name) for name in checkpoint_files(folder, source))


def digest_of_files(files: Iterable[tuple[str, Path]]) -> str:
    """Return the SHA-256 over (name, path) pairs: it covers names, contents and order."""
    total = hashlib.sha256()
    for name, path in files:
        with path.open("rb") as file:
            total.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def is_digest(text: str) -> bool:
    """Return whether the text has the form of a digest. Anything else must never become the name of a folder."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None
