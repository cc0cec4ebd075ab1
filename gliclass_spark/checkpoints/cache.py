"""Checkpoints on this machine's disk, by their digest, and what each address stood for when it was last asked."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from gliclass_spark import atomic_files
from gliclass_spark.checkpoints.digest import digest_of, is_digest
from gliclass_spark.errors import CheckpointError, ModelNotFoundError

CACHE_VARIABLE = "GLICLASS_SPARK_CACHE"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointSource:
    """Where the files of a checkpoint come from.

    name: in words, for messages. fetch: puts the files into a folder that is there and empty.
    if_changed: how to mend it if these are other files than were expected.
    """

    name: str
    fetch: Callable[[Path], None]
    if_changed: str


@dataclass(frozen=True)
class Remembered:
    """What an address stood for: a digest, when the place was last asked (ISO 8601, UTC), and its state then.

    state: how the place itself tells one content from another: a commit, or the tags of its files. The
    same state means the same files; "" says that the place has no means to tell.
    """

    address: str
    digest: str
    asked_at: str
    state: str = ""


@dataclass(frozen=True)
class Cache:
    """A folder with one folder for each digest. Processes may share it, and be killed at any moment."""

    root: Path

    @classmethod
    def default(cls) -> Cache:
        """The folder models of GLICLASS_SPARK_CACHE, or of ~/.cache/gliclass_spark."""
        return cls(Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/gliclass_spark").expanduser() / "models")

    def checkpoint(self, digest: str, source: CheckpointSource) -> Path:
        """The folder with exactly these files. The source is asked only if they are missing or damaged.

        One process fetches, the others wait for it. Raises what `source.fetch` raises; CheckpointError if
        it brings other files; ModelNotFoundError if they can't be kept.
        """
        if self.holds(digest):
            return self.root / digest
        with self._alone(self.root / digest, source):
            if not self.holds(digest):  # else another process has brought it meanwhile
                fresh = self.root / f"{digest}.new"
                with _emptied(fresh):
                    source.fetch(fresh)
                    found = digest_of(fresh, source.name)
                    if found != digest:
                        raise CheckpointError(
                            f"{source.name} gave files with the digest {found[:12]}, expected {digest[:12]}: they are "
                            f"damaged, or were changed meanwhile; {source.if_changed}"
                        )
                    self._keep(fresh, digest)
        return self.root / digest

    def current(self, place: str, address: str, state: str, source: CheckpointSource) -> str:
        """The digest of the files that an address stands for, which the cache then holds.

        place: whom the address was told to, as the URI of a hub. state: what the place says of its files
        now. The source is asked unless that is what it said when they were fetched. Raises as `checkpoint`.
        """
        memory = self._memory(place, address)
        digest = self._unchanged(place, address, state)
        if digest is not None:
            return digest
        with self._alone(memory.with_suffix(""), source):
            digest = self._unchanged(place, address, state)  # another process may have fetched it meanwhile
            if digest is None:
                fresh = memory.with_suffix(".new")
                with _emptied(fresh):
                    source.fetch(fresh)
                    digest = digest_of(fresh, source.name)
                    with self._alone(self.root / digest, source):
                        if not self.holds(digest):
                            self._keep(fresh, digest)
                self.remember(place, address, digest, state)
        return digest

    def holds(self, digest: str) -> bool:
        """Whether the files are there, undamaged: all of them are read."""
        if not is_digest(digest):
            raise CheckpointError(f"{digest!r} is no digest of a checkpoint, which has 64 digits of 0-9, a-f")
        try:
            return digest_of(self.root / digest) == digest
        except (CheckpointError, OSError):
            return False

    def remember(self, place: str, address: str, digest: str, state: str = "") -> None:
        """Keep what a place says that an address stands for, also for the time when it does not answer."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        target = self._memory(place, address)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            atomic_files.write_text(target, json.dumps(asdict(Remembered(address, digest, now, state))) + "\n")
        except OSError as error:  # a cache that was filled beforehand may be mounted read-only
            logger.warning("%s can't be written, so what %r stands for is not remembered: %s", target, address, error)

    def remembered(self, place: str, address: str) -> Remembered | None:
        """What the address stood for when this place last answered; None if it never did."""
        try:
            return Remembered(**json.loads(self._memory(place, address).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # a note that can't be read is as good as none
            return None

    def _unchanged(self, place: str, address: str, state: str) -> str | None:
        known = self.remembered(place, address)
        same = known is not None and state != "" and known.state == state and self.holds(known.digest)
        return known.digest if known is not None and same else None

    def _memory(self, place: str, address: str) -> Path:
        # Hashed: the URI of a registry may hold a password.
        name = hashlib.sha256(f"{place}\n{address}".encode()).hexdigest()
        return self.root / "addresses" / f"{name}.json"

    def _keep(self, fresh: Path, digest: str) -> None:
        place, damaged = self.root / digest, self.root / f"{digest}.damaged"
        shutil.rmtree(damaged, ignore_errors=True)
        if place.exists():
            logger.warning("%s was damaged; it was fetched again", place)
            place.rename(damaged)
        fresh.rename(place)
        shutil.rmtree(damaged, ignore_errors=True)

    @contextmanager
    def _alone(self, path: Path, source: CheckpointSource) -> Iterator[None]:
        """One process at a time does what the block does to this path."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                yield
        except OSError as error:
            raise ModelNotFoundError(
                f"the files of {source.name} can't be kept in {self.root} ({error.strerror or error}); mend that, or "
                f"name another folder in {CACHE_VARIABLE}"
            ) from None


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """An empty folder for the block, gone behind it. A process that was killed may have left some of it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
