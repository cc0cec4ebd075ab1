"""The pipeline files that become DAGs: those that can, and what is wrong with the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gliclass_spark.airflow import alerts
from gliclass_spark.airflow.dags.dag_files import read_files
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.spark import read_conf


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
    taken = "name: {name!r} is the name of {first} too; give it another"
    found = read_files(Path(folder), _checked, lambda pipeline: pipeline.name, taken, "GLICLASS_PIPELINES")
    scheduled = {file: pipeline for file, pipeline in found.read.items() if pipeline.airflow is not None}
    return Pipelines(scheduled, found.refused)


def _checked(file: Path) -> Pipeline:
    pipeline = Pipeline.from_yaml(file)
    if pipeline.airflow is not None:
        read_conf(pipeline.airflow.spark_conf)
        alerts.check(pipeline.airflow.alerts, str(file))
    return pipeline
