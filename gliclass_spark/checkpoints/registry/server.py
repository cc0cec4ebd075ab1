"""The MLflow server, or database, behind a tracking URI: an outage is told apart from an answer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gliclass_spark.errors import RegistryError, RegistryUnreachableError

# MLflow takes seconds to import, and a process whose models are all in the cache never asks it.
if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_URI = "sqlite:///mlflow.db"
# What MLflow says of a server that is down, fails, or has no time. All else is an answer.
_OUTAGES = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}
# MLflow's own are 7 retries of 120 s each: a night would wait for half an hour before it takes what it has.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
_SQLITE = "sqlite:///"


def tracking_uri(uri: str | None) -> str:
    """The URI that is meant: this one, MLFLOW_TRACKING_URI, or a SQLite file in the current folder.

    The path of a SQLite file is made absolute: it has to mean the same in another folder.
    """
    meant = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    database = sqlite_file(meant)
    return meant if database is None else "".join((_SQLITE, str(database), *meant.partition("?")[1:]))


def shown(uri: str) -> str:
    """The URI without user, password and query: fit for messages and logs."""
    return re.sub(r"//[^/]*@", "//", uri).partition("?")[0]


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite URI; None for any other."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]).absolute() if uri.startswith(_SQLITE) else None


def connect(uri: str, registry_uri: str) -> MlflowClient:
    """MLflow's client. Raises RegistryUnreachableError, and RegistryError where MLflow is not installed."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would tell its makers about every run
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar for each file, into every log
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise RegistryError(
            "the model registry needs MLflow, which is not installed; pip install 'gliclass-spark[registry]'"
        ) from None
    with answering(uri):
        return MlflowClient(tracking_uri=uri, registry_uri=registry_uri)


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Give MLflow's errors as ours: RegistryUnreachableError for an outage, RegistryError for a refusal."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        reason = " ".join(str(error).split())
        if error.error_code in _OUTAGES:
            raise unreachable(uri, reason) from None
        raise RegistryError(f"the model registry at {shown(uri)} refuses ({error.error_code}): {reason}") from None
    except SQLAlchemyError as error:
        raise unreachable(uri, type(error).__name__) from None


def unreachable(uri: str, reason: str) -> RegistryUnreachableError:
    return RegistryUnreachableError(
        f"the model registry at {shown(uri)} does not answer ({shown(reason)[:200]}); start it, or say where it is "
        "with --registry or MLFLOW_TRACKING_URI"
    )


@contextmanager
def briefly() -> Iterator[None]:
    """Have MLflow give up after a minute instead of many, unless the user has said how long."""
    unset = {name: value for name, value in _PATIENCE.items() if name not in os.environ}
    os.environ.update(unset)
    try:
        yield
    finally:
        for name in unset:
            os.environ.pop(name, None)
