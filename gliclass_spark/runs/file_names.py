"""File names of run ids, which may hold any character."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

# Most file systems allow 255 bytes, of which an extension and a temporary file's suffix need some.
_MAX_LENGTH = 200


def file_name(run_id: str) -> str:
    """Return a file name for a run id: another one for every id, and never one that leaves its folder."""
    name = quote(run_id, safe="").replace("~", "%7E")  # quote keeps it, and it marks the names that are cut off
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) <= _MAX_LENGTH:
        return name
    digest = hashlib.sha256(run_id.encode()).hexdigest()
    return f"{name[: _MAX_LENGTH - len(digest)]}~{digest}"
