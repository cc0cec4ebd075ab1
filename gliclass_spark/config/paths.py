"""Paths in configuration files: a relative path is resolved from the folder of its file.

Without a file, in Python, it is resolved from the working directory.

Absolute paths and URIs (s3a://, dbfs:/, file:/) stay as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from gliclass_spark.redaction import has_credentials, without_secrets

# Files of a pattern whose links are followed, and alternatives of one.
_MAX_MATCHES = 1_000
# Schemes of one store's drivers: s3://bucket and s3a://bucket are one bucket.
_SAME_STORE = {"s3": "s3a", "s3n": "s3a", "abfs": "abfss", "wasb": "wasbs"}
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def has_scheme(path: str) -> bool:
    """Return whether the path is a URI, as s3a://bucket/folder or dbfs:/folder."""
    return SCHEME.match(path) is not None


def resolve_path(value: str, info: ValidationInfo) -> str:
    """Return the path resolved from the folder of the configuration file, or without one from the working directory.

    Symbolic links are not followed, so that a path through a link (git-sync, a config map) stays valid when the
    link moves.
    """
    if value != value.strip() or not value.isprintable() or not value:
        raise ValueError(f"{value!r} is empty, or holds spaces at its ends or control characters; correct it")
    if value.startswith("~"):
        raise ValueError(f"{value!r} starts with ~, which differs from machine to machine; write the full path")
    folder = (info.context or {}).get("folder")
    refuse_secrets(value)
    if has_scheme(value) or (folder is None and Path(value).is_absolute()):
        return value
    return os.path.normpath(Path(folder or Path.cwd(), value))


def refuse_secrets(value: str) -> str:
    """Return a path or URI. Raises ValueError if it may hold a secret, which the message does not repeat."""
    scheme = SCHEME.match(value)
    if scheme is not None and has_credentials(scheme[1], value[scheme.end() :]):
        shown = f"{scheme[1]}://***@{without_secrets(value.rpartition('@')[2])}"
    else:
        shown = without_secrets(value)
        if shown == value:
            return value
    raise ValueError(
        f"{shown} holds credentials or a signature, which would appear in logs and pages; remove them, and give them "
        "to the store's driver by its settings, the environment or the machine's role"
    )


def source_folders(path: str) -> list[str]:
    """Return the folders that a source may read, as `canonical_folder` spells them.

    The path may be a pattern of Hadoop: `*`, `?`, `[a-z]`, `{a,b}`. Local folders are also returned as the symbolic
    links lead in them, and in what the pattern matches on this machine.
    """
    folders = [canonical_folder(folder) for folder in (*_alternatives(path), *_alternatives(path.replace("\\", "")))]
    local = [folder for folder in folders if folder.startswith("/")]
    matched = [path for folder in local for path in _matches(folder)]
    return [*folders, *(canonical_folder(os.path.realpath(folder)) for folder in (*local, *matched))]


def _matches(pattern: str) -> Iterator[str]:
    """Yield the pattern with its first parts, up to each `*`, `?` or `[`, replaced by what they match here."""
    parts = pattern.strip("/").split("/")
    for count in (index + 1 for index, part in enumerate(parts) if re.search(r"[*?[]", part)):
        beginning = re.sub(r"\*+", "*", "/".join(parts[:count]))  # to Hadoop, ** is one *
        for match in islice(Path("/").glob(beginning), _MAX_MATCHES):
            yield "/".join((str(match), *parts[count:]))


def overlap(folders: Sequence[str], table: str) -> bool:
    """Return whether one of the folders of `source_folders` is a table's folder, in it, or around it."""
    tables = {table, canonical_folder(os.path.realpath(table))} if table.startswith("/") else {table}
    return any(_share_a_path(folder, written) for folder in folders for written in tables)


def _share_a_path(pattern: str, folder: str) -> bool:
    """Return whether one of two canonical paths, of which the first may be a pattern, is the other or is in it."""
    parts = zip(pattern.strip("/").split("/"), folder.strip("/").split("/"), strict=False)
    return all(part == name or fnmatchcase(name, part.replace("[^", "[!")) for part, name in parts)


def _alternatives(pattern: str) -> list[str]:
    """Return the patterns that one with `{a,b}` stands for. Raises ValueError for very many."""
    pending, expanded = [pattern], []
    while pending:
        current = pending.pop()
        match = re.search(r"\{([^{}]*)\}", current)
        if match is None:
            expanded.append(current)
        else:
            pending += [current[: match.start()] + part + current[match.end() :] for part in match[1].split(",")]
        if len(pending) + len(expanded) > _MAX_MATCHES:
            raise ValueError(f"{pattern[:80]!r} stands for more than {_MAX_MATCHES} patterns; write a shorter one")
    return expanded


def canonical_folder(path: str) -> str:
    """Return one spelling for one folder, with a slash at its end, so that it is a prefix of all paths inside it."""
    scheme, rest = (match[1].lower(), path[match.end() :]) if (match := SCHEME.match(path)) else ("file", path)
    if scheme == "file":
        local = Path("/" + rest.lstrip("/") if match else rest).absolute()
        return os.path.normpath(local).rstrip("/") + "/"
    scheme = _SAME_STORE.get(scheme, scheme)
    return f"{scheme}:{os.path.normpath('/' + rest)}".rstrip("/") + "/"


ConfigPath = Annotated[str, AfterValidator(resolve_path)]
