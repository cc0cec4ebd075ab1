"""Checkpoints on this machine's disk, by their digest, and what each address stood for when it was last asked."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from gliclass_spark.errors import CheckpointError
from gliclass_spark.model.location import digest_of, is_digest

CACHE_VARIABLE = "GLICLASS_SPARK_CACHE"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remembered:
    """What an address stood for: a digest, and when the registry last said so (ISO 8601, UTC)."""

    address: str
    digest: str
    asked_at: str


@dataclass(frozen=True)
class Cache:
    """A folder with one folder for each digest. Processes may share it, and be killed at any moment."""

    root: Path

    @classmethod
    def default(cls) -> Cache:
        """The folder models of GLICLASS_SPARK_CACHE, or of ~/.cache/gliclass_spark."""
        return cls(Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/gliclass_spark").expanduser() / "models")

    def checkpoint(self, digest: str, fetch: Callable[[Path], None]) -> Path:
        """The folder with exactly these files. `fetch(folder)` is called if they are missing or damaged.

        One process fetches, the others wait for it. Raises what `fetch` raises, and CheckpointError if it
        brings other files.
        """
        if self.holds(digest):
            return self.root / digest
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / f"{digest}.lock"):
            if not self.holds(digest):  # else another process has brought it meanwhile
                self._bring(digest, fetch)
        return self.root / digest

    def holds(self, digest: str) -> bool:
        """Whether the files are there, undamaged: all of them are read."""
        if not is_digest(digest):
            raise CheckpointError(f"{digest!r} is no digest of a checkpoint, which has 64 digits of 0-9, a-f")
        try:
            return digest_of(self.root / digest) == digest
        except CheckpointError:
            return False

    def remember(self, registry: str, found: Remembered) -> None:
        """Keep what an address of a registry stands for, for the time when the registry does not answer."""
        target = self._memory(registry, found.address)
        fresh = target.with_suffix(f".{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(asdict(found)) + "\n", encoding="utf-8")
            fresh.replace(target)
        except OSError as error:  # a cache that was filled beforehand may be mounted read-only
            logger.warning("%s can't be written, so an outage of the registry will stop jobs: %s", target, error)

    def remembered(self, registry: str, address: str) -> Remembered | None:
        """What the address stood for when this registry last answered; None if it never did."""
        try:
            return Remembered(**json.loads(self._memory(registry, address).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def _memory(self, registry: str, address: str) -> Path:
        # Hashed: the URI of a registry may hold a password.
        name = hashlib.sha256(f"{registry}\n{address}".encode()).hexdigest()
        return self.root / "addresses" / f"{name}.json"

    def _bring(self, digest: str, fetch: Callable[[Path], None]) -> None:
        fresh, damaged = self.root / f"{digest}.new", self.root / f"{digest}.damaged"
        for left_by_a_killed_process in (fresh, damaged):
            shutil.rmtree(left_by_a_killed_process, ignore_errors=True)
        fresh.mkdir()
        try:
            fetch(fresh)
            found = digest_of(fresh)
            if found != digest:
                raise CheckpointError(
                    f"the registry gave files with the digest {found[:12]}, expected {digest[:12]}: they were changed "
                    "after they were registered; register the checkpoint again"
                )
            place = self.root / digest
            if place.exists():
                logger.warning("%s was damaged; it was fetched again", place)
                place.rename(damaged)
            fresh.rename(place)
        finally:
            for leftover in (fresh, damaged):
                shutil.rmtree(leftover, ignore_errors=True)
