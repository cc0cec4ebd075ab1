"""Exactly-once commits to Delta tables, retried after conflicts with other writers.

Exactly once takes two things. Every write is idempotent (a MERGE by key, towards a state that follows
from pinned versions), so that a killed job can be run again. And every write carries Delta's
transaction id, made of the job and of its run's sequence number: Delta skips a write that is not newer
than the last one, so that a superseded run that is still alive can't overwrite its successor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    DeltaConcurrentModificationException,
    MetadataChangedException,
    ProtocolChangedException,
)
from pyspark.sql import SparkSession
from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from gliclass_spark.errors import ConflictError

logger = logging.getLogger(__name__)

# In Python they have no common base class.
_CONFLICTS = (
    *(ConcurrentAppendException, ConcurrentDeleteDeleteException, ConcurrentDeleteReadException),
    *(ConcurrentTransactionException, ConcurrentWriteException, DeltaConcurrentModificationException),
    *(MetadataChangedException, ProtocolChangedException),
)
_ATTEMPTS = 8
_MAX_WAIT_S = 30
# An upper bound of the commits of one run of a job.
_MAX_COMMITS_PER_RUN = 1_000_000
_APP_ID = "spark.databricks.delta.write.txnAppId"
_VERSION = "spark.databricks.delta.write.txnVersion"


class Commits:
    """The commits of one run of a job. `app_id` names the job, `sequence` numbers its runs."""

    def __init__(self, spark: SparkSession, app_id: str, sequence: int) -> None:
        self._spark = spark
        self._app_id = app_id
        self._version = sequence * _MAX_COMMITS_PER_RUN

    def commit(self, path: str, write: Callable[[], object]) -> None:
        """Call `write`, which commits once to the Delta table at `path`; call it again after a conflict.

        Delta silently skips the commit if a later run has written to the table. Raises ConflictError if
        conflicts do not end.
        """
        self._version += 1
        self._spark.conf.set(_APP_ID, self._app_id)
        self._spark.conf.set(_VERSION, str(self._version))
        try:
            retry_conflicts(write, path)
        finally:
            self._spark.conf.unset(_APP_ID)
            self._spark.conf.unset(_VERSION)


def retry_conflicts(write: Callable[[], object], path: str) -> None:
    """Call `write`; call it again, after a growing random pause, while another writer's commit conflicts with it.

    Raises ConflictError after the last attempt.
    """

    def log_retry(state: RetryCallState) -> None:
        logger.warning("%s: another writer committed first; attempt %d", path, state.attempt_number + 1)

    attempts = Retrying(
        retry=retry_if_exception_type(_CONFLICTS),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.5, max=_MAX_WAIT_S),
        before_sleep=log_retry,
    )
    try:
        attempts(write)
    except RetryError as error:
        reason = str(error.last_attempt.exception()).splitlines()[0]
        raise ConflictError(
            f"{path}: other writers changed it {_ATTEMPTS} times while it was written ({reason}); find out who writes "
            "to this table, stop it, and run again"
        ) from None
