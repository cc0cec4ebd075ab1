"""Delta change data feed: rows changed between two versions of a table.

The feed is read by version range. A stream with `availableNow` is no alternative: a stream of a Delta
table fails at the first update or delete unless it reads this same feed, its checkpoint is one more
state to keep in step with the tables, and it can't read a range twice. Here the manifest of a run
records the range that it read; a killed run records none, so the next one reads its range again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from py4j.protocol import Py4JJavaError
from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.errors import TableError
from gliclass_spark.runs.manifest import VersionRange
from gliclass_spark.spark.delta.column_names import column, helper
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.delta.table_ref import TableRef, unreadable_reason

logger = logging.getLogger(__name__)

_TYPE, _VERSION = "_change_type", "_commit_version"
FEED_COLUMNS = (_TYPE, _VERSION)
_PRESENT = ("insert", "update_postimage")
_RANK, _IS_NEW = helper("rank"), helper("is_new")

# Turns rows of a table into those to read, with a column KEY, and keeps the named columns beside them.
Projection = Callable[[DataFrame, tuple[str, ...]], DataFrame]


@dataclass(frozen=True)
class Changes:
    """The rows of a table that changed between two versions.

    rows: inserted and updated rows; all rows in a full scan. deleted: the keys of deleted rows; empty in
    a full scan, which can't see them. full_scan: whether the table was read instead of its feed. only_new: whether
    the table had none of these keys before, as the feed shows; False in a full scan. note: why, if its feed should
    have been read. cached: the persisted frame behind rows and deleted, for the caller to unpersist. counts: those of
    `count`, if they are known.
    """

    rows: DataFrame
    deleted: DataFrame
    full_scan: bool
    only_new: bool = False
    note: str | None = None
    cached: DataFrame | None = None
    counts: tuple[int, int] | None = None

    def count(self) -> tuple[int, int]:
        """Return the number of changed rows, and of deleted keys."""
        return self.counts or (self.rows.count(), self.deleted.count())

    def keys(self) -> DataFrame:
        """Return the keys of changed and deleted rows."""
        return self.rows.select(KEY).union(self.deleted)


class UnreadableFeedError(Exception):
    """The change data feed can't be read; the table has to be read instead. The message is the reason."""


def read_changes(
    spark: SparkSession,
    table: TableRef,
    base: VersionRange | None,
    base_commit: str | None,
    current: VersionRange,
    project: Projection,
) -> Changes:
    """Return the rows of the table that changed after `base`, up to `current`.

    base_commit: see `TableRef.discontinuity`. Falls back to a full scan without a base, and, with a note and
    a warning, if the table does not continue the base or its feed can't be read.
    """
    snapshot = project(table.read(spark, current.until), ())
    if base is None or base.until is None or current.until is None:
        return full_scan(snapshot)
    try:
        if (reason := table.discontinuity(spark, base, base_commit, current)) is not None:
            raise UnreadableFeedError(reason)
        if base.until == current.until:
            empty = snapshot.limit(0)
            return Changes(empty, empty.select(KEY), full_scan=False, only_new=True, counts=(0, 0))
        with unreadable_feed_errors():
            feed = table.change_feed(spark, replace(current, since=base.until))
            latest = latest_changes(_with_columns_of(snapshot, feed, project))
            latest.persist(StorageLevel.MEMORY_AND_DISK)
            [count] = latest.agg(
                F.count_if(_is_present()).alias("present"),
                F.count_if(~_is_present()).alias("deleted"),
                F.count_if(~F.col(_IS_NEW)).alias("known"),
            ).collect()
    except UnreadableFeedError as error:
        note = f"{table.name} was read in a full scan: {error} (versions {base.until} to {current.until})"
        logger.warning("%s", note)
        return replace(full_scan(snapshot), note=note)
    rows = latest.where(_is_present()).drop(*FEED_COLUMNS, _IS_NEW)
    deleted = latest.where(~_is_present()).select(KEY)
    changes = Changes(rows, deleted, full_scan=False, only_new=not count["known"], cached=latest)
    if not count["deleted"]:
        return replace(changes, counts=(count["present"], 0))
    # If two rows had one id for a while, one of them may remain.
    remaining = snapshot.join(F.broadcast(deleted), KEY, "left_semi")
    deleted = deleted.join(remaining.select(KEY), KEY, "left_anti")
    return replace(changes, rows=rows.unionByName(remaining), deleted=deleted)


def full_scan(rows: DataFrame) -> Changes:
    """Return all rows of a table as changed ones."""
    return Changes(rows, rows.select(KEY).limit(0), full_scan=True)


def latest_changes(feed: DataFrame) -> DataFrame:
    """Return the latest row of a change data feed per key, preferably one that is present after its commit.

    A key deleted and inserted in one commit is present; one that an update changed to another key is not. Adds
    whether the key is new: inserted once, and neither updated nor deleted.
    """
    of_key = Window.partitionBy(KEY)
    latest_first = of_key.orderBy(F.desc(_VERSION), F.desc(_is_present()))
    is_only_row = F.col(KEY).isNotNull() & (F.count("*").over(of_key) == 1)
    feed = feed.withColumn(_IS_NEW, is_only_row & (F.col(_TYPE) == "insert"))
    ranked = feed.withColumn(_RANK, F.row_number().over(latest_first))
    return ranked.where(F.col(_RANK) == 1).drop(_RANK)


def _with_columns_of(snapshot: DataFrame, feed: DataFrame, project: Projection) -> DataFrame:
    """Return the rows to read of the feed, in the snapshot's columns. Raises UnreadableFeedError if it has others.

    Delta may read a feed with a later schema than that of the snapshot.
    """
    try:
        rows = project(feed, FEED_COLUMNS)
    except TableError as error:
        raise UnreadableFeedError(f"its columns changed ({error})") from None
    types = {field.name: field.dataType for field in rows.schema}
    changed = [field.name for field in snapshot.schema if types.get(field.name) != field.dataType]
    if changed:
        raise UnreadableFeedError(f"its column {changed[0]!r} changed")
    return rows.select(*(column(name) for name in (*snapshot.columns, *FEED_COLUMNS)))


def _is_present() -> Column:
    return F.col(_TYPE).isin(*_PRESENT)


@contextmanager
def unreadable_feed_errors() -> Iterator[None]:
    """Raise Spark's errors of a feed that can't be read as UnreadableFeedError. Around all that computes the feed."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        reason = unreadable_reason(error)
        if reason is None:
            raise
        raise UnreadableFeedError(reason) from error
