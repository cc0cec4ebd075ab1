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
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
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
    """The commits of one run of a job. `app_id` names the job, `sequence` numbers its runs.

    spark: a session of the job's own. MERGE and DELETE take the transaction id from its settings, and Delta would skip
    the writes of other threads that had the same.

    Each method commits once, again after a conflict, and Delta silently skips the commit if a later run has
    committed to the table. Each raises ConflictError if conflicts do not end.
    """

    def __init__(self, spark: SparkSession, app_id: str, sequence: int) -> None:
        self._session = spark
        self._app_id = app_id
        self._version = sequence * _MAX_COMMITS_PER_RUN

    def append(self, rows: DataFrame, path: str) -> None:
        """Append rows to the Delta table."""
        self._version += 1
        writer = rows.write.format("delta").mode("append").options(txnAppId=self._app_id, txnVersion=self._version)
        retry_conflicts(lambda: writer.save(path), path)

    def overwrite(self, rows: DataFrame, path: str) -> None:
        """Replace the rows and the columns of the Delta table."""
        self._version += 1
        writer = rows.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
        writer = writer.options(txnAppId=self._app_id, txnVersion=self._version)
        retry_conflicts(lambda: writer.save(path), path)

    def truncate(self, path: str) -> None:
        """Remove all rows of the Delta table; a DELETE would read them first."""
        self._version += 1
        writer = self._no_rows(path).write.format("delta").mode("overwrite")
        writer = writer.options(txnAppId=self._app_id, txnVersion=self._version)
        retry_conflicts(lambda: writer.save(path), path)

    def change(self, path: str, write: Callable[[DeltaTable], object]) -> None:
        """Call `write` with the Delta table; it merges or deletes, in one commit."""
        self._version += 1
        self._session.conf.set(_APP_ID, self._app_id)
        self._session.conf.set(_VERSION, str(self._version))
        try:
            retry_conflicts(lambda: write(DeltaTable.forPath(self._session, path)), path)
        finally:
            self._session.conf.unset(_APP_ID)
            self._session.conf.unset(_VERSION)

    def fence(self, path: str) -> None:
        """Commit no rows: from then on Delta skips every commit of an earlier run to the table."""
        self.append(self._no_rows(path), path)

    def _no_rows(self, path: str) -> DataFrame:
        return self._session.read.format("delta").load(path).limit(0)


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
