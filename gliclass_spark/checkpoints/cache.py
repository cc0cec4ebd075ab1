"""Cache of checkpoints on this machine's disk, by digest, and what each model URI last resolved to."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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

    name: the source in messages. fetch: downloads the files into an existing, empty folder. fix: what to do
    if these are other files than were expected, for the error message.
    """

    name: str
    fetch: Callable[[Path], None]
    fix: str


@dataclass(frozen=True)
class Resolution:
    """What a model URI resolved to: a digest, when (ISO 8601, UTC), and the state of its service then.

    state: identifies the content at the service, as a commit or the ETags of files: an equal state means equal
    files. "" if the service has no such identifier.
    """

    digest: str
    resolved_at: str
    state: str = ""


@dataclass(frozen=True)
class Cache:
    """A folder with one subfolder for each digest. Processes may share it, and be killed at any moment."""

    root: Path

    @classmethod
    def default(cls) -> Cache:
        """Return the cache in the folder models of GLICLASS_SPARK_CACHE, or of ~/.cache/gliclass_spark."""
        return cls(Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/gliclass_spark").expanduser() / "models")

    def checkpoint(self, digest: str, source: CheckpointSource) -> Path:
        """Return the folder with exactly these files; fetch them only if they are missing or damaged.

        One process fetches, the others wait for it. Raises what `source.fetch` raises; CheckpointError if it
        brings other files; ModelNotFoundError if the cache can't be written.
        """
        if self.holds(digest):
            return self.root / digest
        with self._locked(self.root / digest, source):
            if not self.holds(digest):  # another process may have fetched it meanwhile
                download = self.root / f"{digest}.new"
                with _temporary_folder(download):
                    source.fetch(download)
                    fetched_digest = digest_of(download, source.name)
                    if fetched_digest != digest:
                        raise CheckpointError(
                            f"{source.name} gave files with the digest {fetched_digest[:12]}, expected {digest[:12]}: "
                            f"they are damaged, or were changed meanwhile; {source.fix}"
                        )
                    self._move_in(download, digest)
        return self.root / digest

    def current_digest(self, service: str, uri: str, state: str, source: CheckpointSource) -> str:
        """Return the digest of the files that a URI points to now, and have them in the cache.

        service: what resolves the URI, as the hub's endpoint. state: the service's present state of the files;
        they are fetched unless it is the state of the last resolution. Raises as `checkpoint` does.
        """
        record = self._record(service, uri)
        digest = self._unchanged(service, uri, state)
        if digest is not None:
            return digest
        with self._locked(record.with_suffix(""), source):
            digest = self._unchanged(service, uri, state)  # another process may have fetched it meanwhile
            if digest is None:
                download = record.with_suffix(".new")
                with _temporary_folder(download):
                    source.fetch(download)
                    digest = digest_of(download, source.name)
                    with self._locked(self.root / digest, source):
                        if not self.holds(digest):
                            self._move_in(download, digest)
                self.record_resolution(service, uri, digest, state)
        return digest

    def holds(self, digest: str) -> bool:
        """Return whether the files are in the cache, undamaged: all of them are read."""
        if not is_digest(digest):
            raise CheckpointError(f"{digest!r} is no digest of a checkpoint, which has 64 digits of 0-9, a-f")
        try:
            return digest_of(self.root / digest) == digest
        except (CheckpointError, OSError):
            return False

    def record_resolution(self, service: str, uri: str, digest: str, state: str = "") -> None:
        """Record what a URI resolved to, for times when its service is unreachable."""
        record = self._record(service, uri)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        document = {"uri": uri, "digest": digest, "resolved_at": now, "state": state}
        try:
            record.parent.mkdir(parents=True, exist_ok=True)
            atomic_files.write_text(record, json.dumps(document) + "\n")
        except OSError as error:  # a cache that was filled in advance may be mounted read-only
            logger.warning("%s can't be written, so what %r resolved to is not recorded: %s", record, uri, error)

    def last_resolution(self, service: str, uri: str) -> Resolution | None:
        """Return what this service last resolved the URI to; None if it never did, or the record can't be read."""
        try:
            document = json.loads(self._record(service, uri).read_text(encoding="utf-8"))
            resolved_at = document.get("resolved_at") or document["asked_at"]  # the key of 0.1
            return Resolution(document["digest"], resolved_at, document.get("state", ""))
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def _unchanged(self, service: str, uri: str, state: str) -> str | None:
        """Return the digest of the last resolution if its state is this one and the cache has its files."""
        last = self.last_resolution(service, uri)
        if last is None or not state or last.state != state or not self.holds(last.digest):
            return None
        return last.digest

    def _record(self, service: str, uri: str) -> Path:
        # Hashed, since the URI of a registry may hold a password.
        name = hashlib.sha256(f"{service}\n{uri}".encode()).hexdigest()
        return self.root / "addresses" / f"{name}.json"

    def _move_in(self, download: Path, digest: str) -> None:
        folder, damaged = self.root / digest, self.root / f"{digest}.damaged"
        shutil.rmtree(damaged, ignore_errors=True)
        if folder.exists():
            logger.warning("%s was damaged; it was fetched again", folder)
            folder.rename(damaged)
        download.rename(folder)
        shutil.rmtree(damaged, ignore_errors=True)

    @contextmanager
    def _locked(self, path: Path, source: CheckpointSource) -> Iterator[None]:
        """Hold the lock of a path among processes. Raises ModelNotFoundError for an OSError of the block."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                yield
        except OSError as error:
            raise ModelNotFoundError(
                f"the files of {source.name} can't be kept in {self.root} ({error.strerror or error}); fix that, or "
                f"set {CACHE_VARIABLE} to another folder"
            ) from None


@contextmanager
def _temporary_folder(path: Path) -> Iterator[None]:
    """Create an empty folder for the block, in place of what a killed process left there; remove it at the end."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)
