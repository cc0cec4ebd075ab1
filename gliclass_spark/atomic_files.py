"""Atomic file writes: a reader sees the old content or the new, never a part of it."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8, see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, or replace it, in one step: a process killed at any moment leaves the old file or the new one.

    The folder must exist. Raises OSError as `Path.write_bytes` does; an existing file then stays as it is.
    """
    temporary = path.with_name(f".{path.name[:64]}.{uuid4().hex}.tmp")  # same folder: a rename is atomic within a disk
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may keep the rename and lose the content
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
