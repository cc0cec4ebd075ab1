"""MLflow runs: the parameters, metrics, tags and artifacts of one training."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from gliclass_spark import __version__
from gliclass_spark.checkpoints.registry.server import QUIET, default_settings, registry_errors, sqlite_file
from gliclass_spark.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """An active MLflow run. All methods raise RegistryError, and RegistryUnreachableError."""

    run_id: str
    uri: str
    client: MlflowClient

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Add one point to the curve of each metric."""
        from mlflow.entities import Metric

        now_ms = time.time_ns() // 1_000_000
        with registry_errors(self.uri):
            points = [Metric(name, float(value), now_ms, step) for name, value in values.items()]
            self.client.log_batch(self.run_id, metrics=points)

    def set_tags(self, values: Mapping[str, object]) -> None:
        """Set tags, replacing those of the same name."""
        from mlflow.entities import RunTag

        with registry_errors(self.uri):
            self.client.log_batch(self.run_id, tags=[RunTag(name, str(value)) for name, value in values.items()])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file, or all files of a folder, into `folder` of the run's artifacts."""
        with registry_errors(self.uri), default_settings(QUIET):
            self.client.log_artifact(self.run_id, str(path), folder)


@contextmanager
def tracked_run(
    client: MlflowClient, uri: str, experiment: str, name: str, parameters: Mapping[str, object]
) -> Iterator[TrackedRun]:
    """Start a run of an experiment, which is created if it is new; the run's status is FAILED if the block raises."""
    from mlflow.entities import Param

    with registry_errors(uri):
        run = client.create_run(_experiment_id(client, uri, experiment), run_name=name)
        tracked = TrackedRun(run.info.run_id, uri, client)
        client.log_batch(tracked.run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
    tracked.set_tags(environment())
    try:
        yield tracked
    except BaseException:
        _terminate(tracked, "FAILED")
        raise
    with registry_errors(uri):
        client.set_terminated(tracked.run_id)


def environment() -> dict[str, str]:
    """Return the versions of Python and of the packages that training and scoring depend on."""
    packages = {name: version(name) for name in ("torch", "transformers")}
    return {"python": platform.python_version(), "gliclass_spark": __version__, **packages}


def _experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    database = sqlite_file(uri)
    # MLflow's default for a SQLite registry is the current folder.
    artifacts = (database.parent / "mlartifacts" / name).as_uri() if database is not None else None
    try:
        return str(client.create_experiment(name, artifact_location=artifacts))
    except MlflowException as error:
        experiment = client.get_experiment_by_name(name)  # created by another process meanwhile
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
            raise
        return str(experiment.experiment_id)


def _terminate(tracked: TrackedRun, status: str) -> None:
    """End the run of a block that raised. A registry error is only logged, so that the block's own is raised."""
    try:
        with registry_errors(tracked.uri):
            tracked.client.set_terminated(tracked.run_id, status)
    except RegistryError as error:
        logger.warning("run %s stays open: %s", tracked.run_id, error)
