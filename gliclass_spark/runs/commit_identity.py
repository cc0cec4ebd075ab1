"""Identity of a Delta commit: version numbers repeat when a table is put back from a copy, commits don't."""

from __future__ import annotations

import hashlib

# Delta writes a commit's own facts, with the time and a random transaction id, on the first line of its file.
IDENTITY_BYTES = 65_536


def commit_file(version: int) -> str:
    """Return the path of a version's commit below the table's folder."""
    return f"_delta_log/{version:020d}.json"


def checksum_file(version: int) -> str:
    """Return the path of what Delta writes beside a commit about the table's state, below the table's folder."""
    return f"_delta_log/{version:020d}.crc"


def commit_identity(size: int, head: bytes) -> str:
    """Return the identity of a commit's file, from its size and its first IDENTITY_BYTES bytes."""
    return f"{size}-{hashlib.sha256(head).hexdigest()[:32]}"
