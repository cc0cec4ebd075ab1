"""The digest of a checkpoint: SHA-256 over its files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from gliclass_spark.checkpoints.files import files_of


def digest_of(folder: Path, place: str | None = None) -> str:
    """SHA-256 of a checkpoint's files. Raises CheckpointError as `files_of` does."""
    return digest_of_files((name, folder / name) for name in files_of(folder, place))


def digest_of_files(files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 of files under their names: of both, and of the order."""
    total = hashlib.sha256()
    for name, path in files:
        with path.open("rb") as file:
            total.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def is_digest(text: str) -> bool:
    """Whether it can be a digest. What is none must never become the name of a folder."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None
