"""Commits to Delta tables that happen once, in their turn, beside other writers.

Exactly once takes two things. Every write is idempotent in itself (a MERGE by key, towards a state
that follows from pinned versions), so that a killed job can simply be run again. And every write
carries Delta's transaction id, made of the job and of its run's sequence number: Delta leaves out a
write that is not newer than the last one, so that a superseded run that is still alive can't write
over its successor.
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

# In Python they have no ancestor of their own.
_CONFLICTS = (
    *(ConcurrentAppendException, ConcurrentDeleteDeleteException, ConcurrentDeleteReadException),
    *(ConcurrentTransactionException, ConcurrentWriteException, DeltaConcurrentModificationException),
    *(MetadataChangedException, ProtocolChangedException),
)
_ATTEMPTS = 8
_LONGEST_WAIT_S = 30
# One run of a job makes at most as many commits to a table.
_COMMITS_PER_RUN = 1_000_000
_APP_ID = "spark.databricks.delta.write.txnAppId"
_VERSION = "spark.databricks.delta.write.txnVersion"


class Commits:
    """The commits of one run of a job. `app_id` is the job's name, `sequence` the run's turn."""

    def __init__(self, spark: SparkSession, app_id: str, sequence: int) -> None:
        self._spark = spark
        self._app_id = app_id
        self._version = sequence * _COMMITS_PER_RUN

    def commit(self, path: str, write: Callable[[], object]) -> None:
        """Do `write`, which commits once to the Delta table at `path`; anew after a conflict, each time from the start.

        Delta leaves it out, without a word, if a later run has written to the table. Raises ConflictError
        if other writers leave it no room.
        """
        self._version += 1
        self._spark.conf.set(_APP_ID, self._app_id)
        self._spark.conf.set(_VERSION, str(self._version))
        try:
            conflicts_retried(write, path)
        finally:
            self._spark.conf.unset(_APP_ID)
            self._spark.conf.unset(_VERSION)


def conflicts_retried(write: Callable[[], object], path: str) -> None:
    """Do `write`; again, after a growing and random pause, while Delta says that another writer was quicker."""

    def tell(state: RetryCallState) -> None:
        logger.warning("%s: another writer was quicker; attempt %d", path, state.attempt_number + 1)

    attempts = Retrying(
        retry=retry_if_exception_type(_CONFLICTS),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT_S),
        before_sleep=tell,
    )
    try:
        attempts(write)
    except RetryError as error:
        why = str(error.last_attempt.exception()).splitlines()[0]
        raise ConflictError(
            f"{path}: other writers changed it {_ATTEMPTS} times while it was written ({why}); find out who writes to "
            "this table, stop it, and run again"
        ) from None
