"""The MLflow server, or database, behind a tracking URI: its client, its settings, and its errors as ours."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gliclass_spark.errors import RegistryError, RegistryUnreachableError
from gliclass_spark.redaction import without_secrets

# MLflow takes seconds to import, and a process whose models are all in the cache never needs it.
if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_URI = "sqlite:///mlflow.db"
# MLflow's error codes for a server that is down, fails or is overloaded. All others are refusals.
_OUTAGES = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}
_SQLITE = "sqlite:///"
# MLflow's settings are environment variables. Ours hold during a call, where the user has not set them.
# MLflow itself reports every use to its vendor, and prints a progress bar per file into every log.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
# By default 7 retries of 120 s each: a run would wait for half an hour before it falls back to the cache.
SHORT_TIMEOUTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


def tracking_uri(uri: str | None) -> str:
    """Return this URI, else MLFLOW_TRACKING_URI, else a SQLite file in the current folder.

    The path of a SQLite file is made absolute, so that the URI means the same in every folder.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    database = sqlite_file(uri)
    return uri if database is None else "".join((_SQLITE, str(database), *uri.partition("?")[1:]))


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite URI; None for any other."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]).absolute() if uri.startswith(_SQLITE) else None


def connect(uri: str, registry_uri: str) -> MlflowClient:
    """Return MLflow's client. Raises RegistryUnreachableError, and RegistryError if MLflow is not installed."""
    with default_settings(QUIET):
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise RegistryError(
                "the model registry needs MLflow, which is not installed; pip install 'gliclass-spark[registry]'"
            ) from None
        with registry_errors(uri), _creating_tables(uri):
            return MlflowClient(tracking_uri=uri, registry_uri=registry_uri)


@contextmanager
def _creating_tables(uri: str) -> Iterator[None]:
    """Lock the folder of a SQLite file, whose tables the first client creates: two at once would fail.

    A folder is locked without a file beside the database. Without locks (some network file systems) go on.
    """
    database = sqlite_file(uri)
    if database is None or not database.parent.is_dir():
        yield
        return
    folder = os.open(database.parent, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)  # which releases the lock


@contextmanager
def default_settings(settings: Mapping[str, str]) -> Iterator[None]:
    """Set these environment variables for the block, except those that the user has set."""
    unset = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(unset)
    try:
        yield
    finally:
        for name in unset:
            os.environ.pop(name, None)


@contextmanager
def registry_errors(uri: str) -> Iterator[None]:
    """Raise MLflow's errors as ours: RegistryUnreachableError for an outage, RegistryError for a refusal."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        reason = " ".join(str(error).split())
        if error.error_code in _OUTAGES:
            raise unreachable(uri, reason) from None
        raise RegistryError(
            f"the model registry at {without_secrets(uri)} refuses ({error.error_code}): {reason}"
        ) from None
    except SQLAlchemyError as error:
        raise unreachable(uri, type(error).__name__) from None


def unreachable(uri: str, reason: str) -> RegistryUnreachableError:
    """Return the error of a registry that is down, with the reason that its client gave."""
    return RegistryUnreachableError(
        f"the model registry at {without_secrets(uri)} is unreachable ({without_secrets(reason)[:200]}); start it, or "
        "give its URI with --registry or MLFLOW_TRACKING_URI"
    )
