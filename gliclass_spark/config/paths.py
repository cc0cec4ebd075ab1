"""Paths in configuration files: a relative path is resolved from the folder of its file.

Absolute paths and URIs (s3a://, dbfs:/, file:/) stay as they are.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def has_scheme(path: str) -> bool:
    """Return whether the path is a URI, as s3a://bucket/folder or dbfs:/folder."""
    return SCHEME.match(path) is not None


def resolve_path(value: str, info: ValidationInfo) -> str:
    """Return the path resolved from the folder of the configuration file, if the validation has one.

    Symbolic links are not followed, so that a path through a link (git-sync, a config map) stays valid when the
    link moves.
    """
    if value != value.strip() or not value.isprintable() or not value:
        raise ValueError(f"{value!r} is empty, or holds spaces at its ends or control characters; correct it")
    if value.startswith("~"):
        raise ValueError(f"{value!r} starts with ~, which differs from machine to machine; write the full path")
    folder = (info.context or {}).get("folder")
    if folder is None or has_scheme(value):
        return value
    return os.path.normpath(Path(folder, value))


def canonical_folder(path: str) -> str:
    """Return one spelling for one folder, with a slash at its end, so that it is a prefix of all paths inside it."""
    scheme, rest = (match[1].lower(), path[match.end() :]) if (match := SCHEME.match(path)) else ("file", path)
    if scheme == "file":
        local = Path("/" + rest.lstrip("/") if match else rest).absolute()
        return os.path.normpath(local).rstrip("/") + "/"
    return f"{scheme}:{os.path.normpath('/' + rest)}".rstrip("/") + "/"


ConfigPath = Annotated[str, AfterValidator(resolve_path)]
