"""A checkpoint's folder in whatever fsspec has a driver for: s3://, gs://, abfss://, hdfs://, https://, file://, ..."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import fsspec
from fsspec.registry import known_implementations

from gliclass_spark.checkpoints.cache import Cache, CheckpointSource
from gliclass_spark.checkpoints.files import LABEL_TOKENIZER, belongs, refuse_unsafe
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.config.model_uri import stored_model
from gliclass_spark.errors import CheckpointError, GliclassSparkError, ModelNotFoundError

# How drivers call what changes when a file does. A size alone does not tell.
_MARKS = (
    *("ETag", "etag", "md5", "md5Hash", "Content-MD5", "content_md5", "crc32c", "checksum", "generation"),
    *("VersionId", "version_id", "blob_id", "sha", "mtime", "LastModified", "Last-Modified", "last_modified"),
    *("last_write_time", "modificationTime", "modified", "modify", "updated", "created"),
)
# Registered by the driver only once it is installed.
_DRIVERS = {"abfss": "adlfs"}
# The fault of the disk that is written to, and not of the store.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}

Listing = dict[str, dict[str, Any]]


def resolve_stored_model(address: str, digest: str | None = None) -> ModelRef:
    """The checkpoint in a folder of a store. Only files that a checkpoint can consist of are fetched.

    digest: of the files that are meant; then the store is asked only if the cache does not have them. Without
    it the store is asked what it has, and nothing is fetched again that has not changed. Raises
    ModelNotFoundError, CheckpointError.
    """
    cache, folder = Cache.default(), StoredFolder(address)
    if digest is not None:
        return ModelRef(address, cache.checkpoint(digest, folder.source(None)), digest)
    state = folder.state()
    found = cache.current("store", address, state, folder.source(state))
    return ModelRef(address, cache.root / found, found)


@dataclass(frozen=True)
class StoredFolder:
    """The folder of a checkpoint, at an address that fsspec has a driver for."""

    address: str

    def source(self, state: str | None) -> CheckpointSource:
        """The files. state: as `state` gave it, if it has to be the same still when all of them are fetched."""
        mend = "put the files back, or begin again with those that are there now"
        return CheckpointSource(self.address, partial(self._fetch, state), mend)

    def state(self) -> str:
        """What the store says of the files, in a text: it changes when they do. "" if the store can't tell."""
        marks = {name: _marks(entry) for name, entry in self._files().items()}
        return json.dumps(marks, sort_keys=True) if all(marks.values()) else ""

    def _fetch(self, state: str | None, folder: Path) -> None:
        with self._told():
            for name, entry in self._files().items():
                target = folder / name
                target.parent.mkdir(exist_ok=True)
                self._system.get_file(entry["name"], str(target))
                size, expected = target.stat().st_size, entry.get("size")
                if expected is not None and size != expected:
                    raise CheckpointError(f"{self.address} gave {size} of the {expected} bytes of {name}; try again")
            if state is not None and self.state() != state:
                raise CheckpointError(f"{self.address} was changed while it was fetched; try again when it is complete")

    def _files(self) -> Listing:
        """The files that a checkpoint can consist of, by their names as seen from the folder."""
        with self._told():
            self._system.invalidate_cache()  # it would answer with what it was told before
            listed = self._listed(self._root)
            refuse_unsafe(list(listed), self.address)
            if listed.get(LABEL_TOKENIZER, {}).get("type") == "directory":
                inside = self._listed(f"{self._root}/{LABEL_TOKENIZER}")
                listed |= {f"{LABEL_TOKENIZER}/{name}": entry for name, entry in inside.items()}
            wanted = {name: entry for name, entry in listed.items() if belongs(name) and entry["type"] != "directory"}
            # A listing may say less of a file than the file does.
            return {
                name: entry if _marks(entry) else self._system.info(entry["name"]) for name, entry in wanted.items()
            }

    def _listed(self, folder: str) -> Listing:
        entries = self._system.ls(folder, detail=True)
        if belongs(folder.rpartition("/")[2]) or [entry["name"] for entry in entries] == [folder]:
            raise ModelNotFoundError(f"{self.address} is the address of a file; give that of its folder")
        return {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries}

    @property
    def _root(self) -> str:
        return str(self._system._strip_protocol(self._url)).rstrip("/")

    @cached_property
    def _url(self) -> str:
        try:
            return stored_model(self.address)
        except ValueError as error:
            raise ModelNotFoundError(str(error)) from None

    @cached_property
    def _system(self) -> Any:
        protocol = self._url.partition(":")[0]
        try:
            fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError) as error:
            raise ModelNotFoundError(f"{self.address} can't be read: {_missing_driver(protocol, error)}") from None
        return fsspec.core.url_to_fs(self._url)[0]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Give a store's errors as ours, in one line."""
        try:
            yield
        except GliclassSparkError:
            raise
        except FileNotFoundError:
            raise ModelNotFoundError(f"there is nothing at {self.address}; check the address") from None
        except Exception as error:  # each driver has errors of its own
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            reason = re.sub(r"\?\S+", "?***", " ".join(str(error).split()))[:200]  # a signed URL is a secret
            raise ModelNotFoundError(
                f"{self.address} can't be read ({type(error).__name__}: {reason}); check that the store is up, and "
                "the credentials in the environment"
            ) from None


def _marks(entry: Mapping[str, Any]) -> dict[str, str]:
    """What tells this content of a file from another; empty if nothing does."""
    found = {mark: str(entry[mark]) for mark in _MARKS if entry.get(mark) is not None}
    return {**found, "size": str(entry.get("size"))} if found else {}


def _missing_driver(protocol: str, error: Exception) -> str:
    package = str(known_implementations.get(protocol, {}).get("class", "")).partition(".")[0]
    package = _DRIVERS.get(protocol, package)
    if not package:
        return f"fsspec knows no driver for {protocol}://; install one, or copy the folder to another store"
    if package == "fsspec":
        return f"its driver lacks a package ({error}); install it"
    return f"its driver is not installed; pip install {package}"
