"""Pipeline files: the pipelines that Airflow schedules, and the errors of invalid files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gliclass_spark.airflow.alerts import check_providers
from gliclass_spark.airflow.dags.dag_files import read_files
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.spark import read_conf


@dataclass(frozen=True)
class Pipelines:
    """scheduled: the pipelines with an `airflow:` part, by file. errors: a message for each invalid file."""

    scheduled: dict[Path, Pipeline] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def named(self, name: str) -> Pipeline | None:
        return next((pipeline for pipeline in self.scheduled.values() if pipeline.name == name), None)


def read_pipelines(folder: str | Path) -> Pipelines:
    """Read every `*.yaml` of the folder. An invalid file, or a second one with the same name, does not affect others.

    Raises ConfigError if the folder does not exist.
    """
    duplicate_error = "name: {key!r} is the name of {first} too; give it another"
    files = read_files(Path(folder), _read, lambda pipeline: pipeline.name, duplicate_error, "GLICLASS_PIPELINES")
    scheduled = {path: pipeline for path, pipeline in files.configs.items() if pipeline.airflow is not None}
    return Pipelines(scheduled, files.errors)


def _read(path: Path) -> Pipeline:
    pipeline = Pipeline.from_yaml(path)
    if pipeline.airflow is not None:
        read_conf(pipeline.airflow.spark_conf)
        check_providers(pipeline.airflow.alerts, str(path))
    return pipeline
