"""Checkpoints in an object store, or any other file system of fsspec: s3://, gs://, abfss://, hdfs://, https://, file://."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fsspec
from fsspec.registry import known_implementations

from gliclass_spark.checkpoints.cache import Cache, CheckpointSource
from gliclass_spark.checkpoints.files import LABEL_TOKENIZER, has_file, is_checkpoint_file, refuse_unsafe
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.config.model_uri import stored_model
from gliclass_spark.errors import CheckpointError, GliclassSparkError, ModelNotFoundError
from gliclass_spark.redaction import without_secrets

# Keys of a driver's file info whose value changes with the content. A size alone does not show a change.
_VERSION_KEYS = (
    *("ETag", "etag", "md5", "md5Hash", "Content-MD5", "content_md5", "crc32c", "checksum", "generation"),
    *("VersionId", "version_id", "blob_id", "sha", "mtime", "LastModified", "Last-Modified", "last_modified"),
    *("last_write_time", "modificationTime", "modified", "modify", "updated", "created"),
)
# Drivers that fsspec lists only once they are installed, by protocol.
_DRIVER_PACKAGES = {"abfss": "adlfs"}
# Errors of the local disk, not of the store.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}

Listing = dict[str, dict[str, Any]]


def resolve_stored_model(uri: str, digest: str | None = None) -> ModelRef:
    """Return the checkpoint in a folder of an object store.

    digest: return the files with this digest, from the cache without network access if they are there. Without it
    the store's listing decides, and only a checkpoint that has changed is fetched. Raises ModelNotFoundError,
    CheckpointError.
    """
    cache, folder = Cache.default(), StoredFolder(uri)
    if digest is not None:
        return ModelRef(uri, cache.checkpoint(digest, folder.source(None)), digest)
    state = folder.state()
    digest = cache.current_digest("store", uri, state, folder.source(state))
    return ModelRef(uri, cache.root / digest, digest)


@dataclass(frozen=True)
class StoredFolder:
    """The folder of a checkpoint at a URI that fsspec has a driver for."""

    uri: str

    def source(self, state: str | None) -> CheckpointSource:
        """Return the folder as a source. state: from `state()`, if it must not change until all files are fetched."""
        fix = "put the files back, or start again with the present ones"
        return CheckpointSource(self.uri, partial(self._fetch, state), fix)

    def state(self) -> str:
        """Return the versions of the files, as ETags, in a text that changes when they do; "" if the store has none."""
        versions = {name: _version_info(entry) for name, entry in self._files().items()}
        return json.dumps(versions, sort_keys=True) if all(versions.values()) else ""

    def _fetch(self, state: str | None, folder: Path) -> None:
        with self._store_errors():
            for name, entry in self._files().items():
                target = folder / name
                target.parent.mkdir(exist_ok=True)
                self._file_system.get_file(entry["name"], str(target))
                size, expected = target.stat().st_size, entry.get("size")
                if expected is not None and size != expected:
                    raise CheckpointError(f"{self.uri} gave {size} of the {expected} bytes of {name}; try again")
            if state is not None and self.state() != state:
                raise CheckpointError(f"{self.uri} was changed while it was fetched; try again when it is complete")

    def _files(self) -> Listing:
        """Return the info of the files that a checkpoint can consist of, by name relative to the folder."""
        with self._store_errors():
            self._file_system.invalidate_cache()  # else an earlier listing may be returned
            entries = self._list(self._root)
            refuse_unsafe(list(entries), self.uri)
            if entries.get(LABEL_TOKENIZER, {}).get("type") == "directory":
                inside = self._list(f"{self._root}/{LABEL_TOKENIZER}")
                entries |= {f"{LABEL_TOKENIZER}/{name}": entry for name, entry in inside.items()}
            files = {
                name: entry
                for name, entry in entries.items()
                if is_checkpoint_file(name) and entry["type"] != "directory"
            }
            # Some drivers give the version of a file in its info, but not in a listing.
            return {
                name: entry if _version_info(entry) else self._file_system.info(entry["name"])
                for name, entry in files.items()
            }

    def _list(self, folder: str) -> Listing:
        entries = self._file_system.ls(folder, detail=True)
        is_file = [entry["name"] for entry in entries] == [folder]
        if is_file or is_checkpoint_file(folder.rpartition("/")[2]):
            raise ModelNotFoundError(f"{self.uri} is the URI of a file; give that of its folder")
        listing = {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries}
        return {name: entry for name, entry in listing.items() if self._is_inside(folder, name, entry)}

    def _is_inside(self, folder: str, name: str, entry: Mapping[str, Any]) -> bool:
        """Return whether an entry is a file or folder of this folder, and no link to another place.

        Raises CheckpointError for a symbolic link out of the folder.
        """
        protocol = self._url.partition(":")[0]
        if protocol in ("http", "https"):  # a listing is a page, which may have a link to any host
            return unquote(entry["name"].rstrip("/")) == unquote(f"{folder}/{name}")
        if protocol in ("file", "local") and is_checkpoint_file(os.path.relpath(f"{folder}/{name}", self._root)):
            return has_file(Path(self._root), os.path.relpath(f"{folder}/{name}", self._root), self.uri)
        return True

    @property
    def _root(self) -> str:
        return str(self._file_system._strip_protocol(self._url)).rstrip("/")

    @cached_property
    def _url(self) -> str:
        try:
            return stored_model(self.uri)
        except ValueError as error:
            raise ModelNotFoundError(str(error)) from None

    @cached_property
    def _file_system(self) -> Any:
        protocol = self._url.partition(":")[0]
        try:
            fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError) as error:
            raise ModelNotFoundError(f"{self.uri} can't be read: {_missing_driver(protocol, error)}") from None
        return fsspec.core.url_to_fs(self._url)[0]

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        """Raise a driver's errors as ModelNotFoundError, in one line."""
        try:
            yield
        except GliclassSparkError:
            raise
        except FileNotFoundError:
            raise ModelNotFoundError(f"there is nothing at {self.uri}; check the URI") from None
        except Exception as error:  # each driver raises errors of its own
            if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                raise
            reason = without_secrets(" ".join(str(error).split()))[:200]  # it may hold a signed URL
            raise ModelNotFoundError(
                f"{self.uri} can't be read ({type(error).__name__}: {reason}); check that the store is up, and the "
                "credentials in the environment"
            ) from None


def _version_info(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the version keys and the size of a file's info; empty if it has no version key."""
    versions = {key: str(entry[key]) for key in _VERSION_KEYS if entry.get(key) is not None}
    return {**versions, "size": str(entry.get("size"))} if versions else {}


def _missing_driver(protocol: str, error: Exception) -> str:
    package = str(known_implementations.get(protocol, {}).get("class", "")).partition(".")[0]
    package = _DRIVER_PACKAGES.get(protocol, package)
    if not package:
        return f"fsspec has no driver for {protocol}://; install one, or copy the folder to another store"
    if package == "fsspec":
        return f"its driver lacks a package ({error}); install it"
    return f"its driver is not installed; pip install {package}"
