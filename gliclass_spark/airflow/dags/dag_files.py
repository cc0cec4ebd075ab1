"""The files of a folder that become DAGs: those that can, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from gliclass_spark.errors import ConfigError, GliclassSparkError

Read = TypeVar("Read")


@dataclass(frozen=True)
class Files(Generic[Read]):
    """read: what the sound files hold. refused: what is wrong with the other files, a message each."""

    read: dict[Path, Read] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def read_files(
    folder: Path, read: Callable[[Path], Read], name: Callable[[Read], str | None], taken: str, variable: str
) -> Files[Read]:
    """Every `*.yaml` of the folder, by `read`. A file that is wrong, or whose `name` another one has, is refused alone.

    name: what no two files may be called; None where it does not matter. taken: what is said of the second
    one, with {name} and {first}. variable: the one of the environment that names the folder. Raises
    ConfigError if there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}; set {variable} to the one that holds these files")
    found = Files[Read]()
    first: dict[str, Path] = {}
    for file in sorted(folder.glob("*.yaml")):
        try:
            content = read(file)
        except GliclassSparkError as error:
            found.refused.append(str(error))
            continue
        called = name(content)
        if called in first:
            found.refused.append(f"{file}: {taken.format(name=called, first=first[called])}")
            continue
        found.read[file] = content
        if called is not None:
            first[called] = file
    return found
