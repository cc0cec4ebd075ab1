"""One rule for paths: a relative path is relative to the folder of the file that says it. Absolute paths
and addresses with a scheme (s3a://, dbfs:/, file:/) are left as they are. And the forms that the address of
a model can have.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def has_scheme(address: str) -> bool:
    """Whether it is more than a path of this machine's files."""
    return SCHEME.match(address) is not None


def resolve_path(value: str, info: ValidationInfo) -> str:
    """The path as seen from the folder of the file, if there is one. Links are left as they are, so
    that a configuration behind a link (git-sync, a config map) keeps its address when the link moves.
    """
    if value != value.strip() or not value.isprintable() or not value:
        raise ValueError(f"{value!r} is empty, or holds spaces at its ends or control characters; correct it")
    if value.startswith("~"):
        raise ValueError(f"{value!r} starts with ~, which differs from machine to machine; write the whole path")
    folder = (info.context or {}).get("folder")
    if folder is None or has_scheme(value):
        return value
    return os.path.normpath(Path(folder, value))


def canonical_folder(path: str) -> str:
    """One spelling for one folder, ending in a slash: a folder's spelling begins all that it holds."""
    scheme, rest = (match[1].lower(), path[match.end() :]) if (match := SCHEME.match(path)) else ("file", path)
    if scheme == "file":
        local = Path("/" + rest.lstrip("/") if match else rest).absolute()
        return os.path.normpath(local).rstrip("/") + "/"
    return f"{scheme}:{os.path.normpath('/' + rest)}".rstrip("/") + "/"


ConfigPath = Annotated[str, AfterValidator(resolve_path)]
