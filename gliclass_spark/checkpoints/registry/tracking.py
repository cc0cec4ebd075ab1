"""One MLflow run: what was tried, in which environment, and what came of it."""

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
from gliclass_spark.checkpoints.registry.server import answering, sqlite_file
from gliclass_spark.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracked:
    """A run at work. All of its methods raise RegistryError, and RegistryUnreachableError."""

    run_id: str
    uri: str
    client: MlflowClient

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Add a point to the curve of each metric."""
        from mlflow.entities import Metric

        now_ms = time.time_ns() // 1_000_000
        with answering(self.uri):
            points = [Metric(name, float(value), now_ms, step) for name, value in values.items()]
            self.client.log_batch(self.run_id, metrics=points)

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags; one that is there already gets the new value."""
        from mlflow.entities import RunTag

        with answering(self.uri):
            self.client.log_batch(self.run_id, tags=[RunTag(name, str(value)) for name, value in values.items()])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file, or all that is in a folder, into `folder` of the run's artifacts."""
        with answering(self.uri):
            self.client.log_artifact(self.run_id, str(path), folder)


@contextmanager
def tracked(
    client: MlflowClient, uri: str, experiment: str, name: str, parameters: Mapping[str, object]
) -> Iterator[Tracked]:
    """A run of an experiment, which is created if it is new. FAILED if the block raises."""
    from mlflow.entities import Param

    with answering(uri):
        run = client.create_run(_experiment(client, uri, experiment), run_name=name)
        mine = Tracked(run.info.run_id, uri, client)
        client.log_batch(mine.run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
    mine.tags(environment())
    try:
        yield mine
    except BaseException:
        _end(mine, "FAILED")
        raise
    with answering(uri):
        client.set_terminated(mine.run_id)


def environment() -> dict[str, str]:
    """The versions that decide what training and scoring give."""
    packages = {name: version(name) for name in ("torch", "transformers")}
    return {"python": platform.python_version(), "gliclass_spark": __version__, **packages}


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    database = sqlite_file(uri)
    # MLflow would put the files of a SQLite registry into whatever folder is the current one.
    place = (database.parent / "mlartifacts" / name).as_uri() if database is not None else None
    try:
        return str(client.create_experiment(name, artifact_location=place))
    except MlflowException as error:
        found = client.get_experiment_by_name(name)  # another process was faster
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
            raise
        return str(found.experiment_id)


def _end(mine: Tracked, status: str) -> None:
    """Close the run of a block that raised: what it raised matters more than a registry that is gone, too."""
    try:
        with answering(mine.uri):
            mine.client.set_terminated(mine.run_id, status)
    except RegistryError as error:
        logger.warning("run %s stays open: %s", mine.run_id, error)
