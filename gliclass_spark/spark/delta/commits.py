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
from gliclass_spark.spark.delta.table_ref import TableRef

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

    def append(self, rows: DataFrame, table: TableRef) -> None:
        """Append rows to the Delta table."""
        options = self._next_transaction()
        retry_conflicts(lambda: table.append(rows, **options), table.name)

    def overwrite(self, rows: DataFrame, table: TableRef) -> None:
        """Replace the rows and the columns of the Delta table."""
        options = {**self._next_transaction(), "overwriteSchema": "true"}
        retry_conflicts(lambda: table.overwrite(rows, **options), table.name)

    def truncate(self, table: TableRef) -> None:
        """Remove all rows of the Delta table; a DELETE would read them first."""
        options = self._next_transaction()
        retry_conflicts(lambda: table.overwrite(self._no_rows(table), **options), table.name)

    def change(self, table: TableRef, write: Callable[[DeltaTable], object]) -> None:
        """Call `write` with the Delta table; it merges or deletes, in one commit."""
        options = self._next_transaction()
        self._session.conf.set(_APP_ID, options["txnAppId"])
        self._session.conf.set(_VERSION, options["txnVersion"])
        try:
            retry_conflicts(lambda: write(table.handle(self._session)), table.name)
        finally:
            self._session.conf.unset(_APP_ID)
            self._session.conf.unset(_VERSION)

    def fence(self, table: TableRef) -> None:
        """Commit no rows: from then on Delta skips every commit of an earlier run to the table."""
        self.append(self._no_rows(table), table)

    def _next_transaction(self) -> dict[str, str]:
        self._version += 1
        return {"txnAppId": self._app_id, "txnVersion": str(self._version)}

    def _no_rows(self, table: TableRef) -> DataFrame:
        return table.read(self._session, None).limit(0)


def retry_conflicts(write: Callable[[], object], table: str) -> None:
    """Call `write`; call it again, after a growing random pause, while another writer's commit conflicts with it.

    `table` names the table in messages. Raises ConflictError after the last attempt.
    """

    def log_retry(state: RetryCallState) -> None:
        logger.warning("%s: another writer committed first; attempt %d", table, state.attempt_number + 1)

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
            f"{table}: other writers changed it {_ATTEMPTS} times while it was written ({reason}); find out who writes "
            "to this table, stop it, and run again"
        ) from None
