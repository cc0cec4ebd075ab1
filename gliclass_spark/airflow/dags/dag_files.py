"""DAG files: the configuration files of a folder, their DAGs, and the errors of those that are invalid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from gliclass_spark.errors import ConfigError, GliclassSparkError

if TYPE_CHECKING:
    from airflow.sdk import DAG

Config = TypeVar("Config")


@dataclass(frozen=True)
class Files(Generic[Config]):
    """configs: the content of the valid files, by path. errors: a message for each other file."""

    configs: dict[Path, Config] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Dags:
    """dags: the DAGs, by id. errors: a message for each file that Airflow refuses."""

    dags: dict[str, DAG] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def read_files(
    folder: Path,
    read: Callable[[Path], Config],
    key: Callable[[Config], str | None],
    duplicate_error: str,
    variable: str,
) -> Files[Config]:
    """Read every `*.yaml` of the folder. An invalid file, or a second one with the same key, does not affect others.

    key: what only one file may have, None where it does not matter. duplicate_error: the message for the second
    file, with {key} and {first}. variable: the environment variable that sets the folder.

    Raises ConfigError if the folder does not exist.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}; set {variable} to the one that holds these files")
    files = Files[Config]()
    first: dict[str, Path] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            config = read(path)
        except Exception as error:
            files.errors.append(_message(path, error))
            continue
        name = key(config)
        if name in first:
            files.errors.append(f"{path}: {duplicate_error.format(key=name, first=first[name])}")
            continue
        files.configs[path] = config
        if name is not None:
            first[name] = path
    return files


def build_dags(configs: Mapping[Path, Config], build: Callable[[Path, Config], DAG]) -> Dags:
    """Build the DAG of each file. A file that Airflow's own classes refuse does not affect others."""
    built = Dags()
    for path, config in configs.items():
        try:
            dag = build(path, config)
        except Exception as error:  # these classes raise errors of many types
            built.errors.append(_message(path, error))
        else:
            built.dags[dag.dag_id] = dag
    return built


def _message(path: Path, error: Exception) -> str:
    """Return an import error's message. Errors of this package name the file, and how to fix it, themselves."""
    if isinstance(error, GliclassSparkError):
        return str(error)
    return f"{path}: {type(error).__name__}: {' '.join(str(error).split())}; correct the value that this is about"
