"""The pipeline files that become DAGs: those that can, and what is wrong with the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gliclass_spark.airflow import alerts
from gliclass_spark.config import Pipeline
from gliclass_spark.errors import ConfigError, GliclassSparkError
from gliclass_spark.spark_conf import read_conf


@dataclass(frozen=True)
class Pipelines:
    """scheduled: the pipelines with an `airflow:` part, by file. refused: what is wrong with the other files."""

    scheduled: dict[Path, Pipeline] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def named(self, name: str) -> Pipeline | None:
        return next((each for each in self.scheduled.values() if each.name == name), None)


def read_pipelines(folder: str | Path) -> Pipelines:
    """Every `*.yaml` of the folder. A file that is wrong, or whose name another one has, is refused alone.

    Raises ConfigError if there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ConfigError(f"there is no folder {root}; set GLICLASS_PIPELINES to the one that holds the pipeline files")
    found: dict[Path, Pipeline] = {}
    refused = []
    for file in sorted(root.glob("*.yaml")):
        try:
            found[file] = _checked(file)
        except GliclassSparkError as error:
            refused.append(str(error))
    first: dict[str, Path] = {}
    for file, pipeline in list(found.items()):
        if pipeline.name in first:
            refused.append(
                f"{file}: name: {pipeline.name!r} is the name of {first[pipeline.name]} too; give it another"
            )
            del found[file]
        first.setdefault(pipeline.name, file)
    return Pipelines({file: pipeline for file, pipeline in found.items() if pipeline.airflow is not None}, refused)


def _checked(file: Path) -> Pipeline:
    pipeline = Pipeline.from_yaml(file)
    if pipeline.airflow is not None:
        read_conf(pipeline.airflow.spark_conf)
        alerts.check(pipeline.airflow.alerts, str(file))
    return pipeline
