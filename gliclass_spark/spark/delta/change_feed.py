"""What became of a table's rows between two of its versions.

Read from Delta's change data feed, by version range. The other way, a stream with `availableNow`,
was not taken: a stream of a Delta table stops at the first update or delete unless it reads this
same feed, its checkpoint is one more thing that has to stay in step with the tables, and it can't be
asked for a range again. Here the range stands in the manifest of the run that read it; a run that
was killed left none, so the next one reads the range again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark import StorageLevel
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.errors import TableError
from gliclass_spark.runs.manifest import VersionRange
from gliclass_spark.spark.delta.schema import KEY

logger = logging.getLogger(__name__)

_TYPE, _VERSION = "_change_type", "_commit_version"
FEED_COLUMNS = (_TYPE, _VERSION)
_PRESENT = ("insert", "update_postimage")
_FEED_OFF = (
    "its change data feed was off; to look at changes alone, switch it on: "
    "ALTER TABLE ... SET TBLPROPERTIES (delta.enableChangeDataFeed = true)"
)
# Why a range can't be read, by what Spark's and Delta's messages hold, and what to say of it.
_UNREADABLE = {
    "DELTA_CHANGE_TABLE_FEED_DISABLED": _FEED_OFF,
    "DELTA_MISSING_CHANGE_DATA": _FEED_OFF,
    "INCOMPATIBLE_SCHEMA_CHANGE": "its schema changed",
    "INCOMPATIBLE_DATA_SCHEMA": "its schema changed",
    "DELTA_CDC_START_VERSION_AFTER_LATEST": "it has fewer versions than it had",
    "TIME_TRAVEL_BEYOND_DELETED_FILE_RETENTION": "it is older than the table's delta.deletedFileRetentionDuration",
    "DELTA_VERSION_NOT_FOUND": "its log was cleaned up",
    "DELTA_LOG_FILE_NOT_FOUND": "its log was cleaned up",
    "DELTA_FILE_NOT_FOUND": "vacuum removed its files",
    "FILE_NOT_EXIST": "vacuum removed its files",
    "FileNotFoundException": "vacuum removed its files",
}


class NotADeltaTableError(TableError):
    """There is no Delta table at the address."""


@dataclass(frozen=True)
class DeltaAddress:
    """A Delta table, by its path or by its name in the catalog."""

    path: str | None = None
    table: str | None = None

    @property
    def name(self) -> str:
        return self.table or str(self.path)

    def handle(self, spark: SparkSession) -> DeltaTable:
        """Raises NotADeltaTableError."""
        try:
            if self.table is not None:
                return DeltaTable.forName(spark, self.table)
            return DeltaTable.forPath(spark, str(self.path))
        except AnalysisException:
            raise NotADeltaTableError(
                f"there is no Delta table at {self.name}; run the job that writes it first"
            ) from None

    def latest(self, spark: SparkSession, until: datetime | None = None) -> VersionRange:
        """All that the table holds now, or held at the time `until`. Raises TableError if it is younger."""
        handle = self.handle(spark)
        table_id = handle.detail().select("id").collect()[0]["id"]
        commits = handle.history(1) if until is None else handle.history().where(F.col("timestamp") <= F.lit(until))
        last = commits.agg(F.max("version").alias("version")).collect()[0]["version"]
        if last is None:
            first = handle.history().agg(F.min("timestamp").alias("first")).collect()[0]["first"]
            raise TableError(
                f"{self.name} has no version of {until} or before: the earliest that is known is of {first}; "
                "take a later time"
            )
        return VersionRange(table_id, None, int(last))

    def read(self, spark: SparkSession, version: int | None) -> DataFrame:
        """The table as it was at the version. Raises TableError if that version is gone."""
        self.handle(spark)
        reader = spark.read.option("versionAsOf", version) if version is not None else spark.read
        try:
            return reader.table(self.table) if self.table else reader.format("delta").load(self.path)
        except (AnalysisException, PySparkException) as error:
            raise TableError(
                f"version {version} of {self.name} can't be read any more ({_why(error) or _first_line(error)}); "
                "run the tag job again, and then this one"
            ) from None

    def feed(self, spark: SparkSession, between: VersionRange) -> DataFrame:
        """The change data feed of the range, with _change_type and _commit_version. Errors come when it is read."""
        reader = spark.read.option("readChangeFeed", "true").option("startingVersion", int(between.since or 0) + 1)
        reader = reader.option("endingVersion", int(between.until or 0))
        frame = reader.table(self.table) if self.table else reader.format("delta").load(self.path)
        return frame.drop("_commit_timestamp")


@dataclass(frozen=True)
class Changes:
    """rows: the present rows whose key is new, or that changed; of a whole table, all. gone: the keys that
    are no more (unknown, and empty, when the table was looked at as a whole). held: what is kept in
    memory for them, for the reader to let go.
    """

    rows: DataFrame
    gone: DataFrame
    full_scan: bool
    note: str | None = None
    held: DataFrame | None = None

    def keys(self) -> DataFrame:
        """The keys of rows and of what is gone."""
        return self.rows.select(KEY).union(self.gone)


def changes(
    spark: SparkSession,
    address: DeltaAddress,
    base: VersionRange | None,
    now: VersionRange,
    shaped: Callable[[DataFrame, tuple[str, ...]], DataFrame],
) -> Changes:
    """What changed in the table after `base`, up to `now`; the whole table where the feed can't tell, with a note.

    `shaped` turns rows as they are in the table into the rows that are wanted, with a column KEY; it
    keeps the columns that are named to it.
    """
    between = since(base, now)
    if between.since is None:
        return full_scan(shaped(address.read(spark, now.until), ()))
    if between.since == between.until:
        nothing = shaped(address.read(spark, now.until), ()).limit(0)
        return Changes(nothing, nothing.select(KEY), full_scan=False)
    try:
        with _readable():
            last = latest_changes(shaped(address.feed(spark, between), FEED_COLUMNS))
            last.persist(StorageLevel.MEMORY_AND_DISK)
            deletes = not last.where(~_is_present()).isEmpty()
            last.count()
    except UnreadableFeedError as error:
        note = f"{address.name} was compared as a whole: {error} (versions {between.since} to {between.until})"
        logger.warning("%s", note)
        return replace(full_scan(shaped(address.read(spark, now.until), ())), note=note)
    rows, gone = last.where(_is_present()).drop(*FEED_COLUMNS), last.where(~_is_present()).select(KEY)
    if deletes:
        # Where an id stood on two rows for a while, one of them may be left.
        left = shaped(address.read(spark, now.until), ()).join(F.broadcast(gone), KEY, "left_semi")
        rows = rows.unionByName(left, allowMissingColumns=True)
        gone = gone.join(left.select(KEY), KEY, "left_anti")
    return Changes(rows, gone, full_scan=False, held=last)


def full_scan(rows: DataFrame) -> Changes:
    """A table looked at as a whole."""
    return Changes(rows, rows.select(KEY).limit(0), full_scan=True)


def since(base: VersionRange | None, now: VersionRange) -> VersionRange:
    """The range from the end of `base` to `now`; all of it, if `base` was another table."""
    if base is None or base.table_id != now.table_id or base.until is None or now.until is None:
        return replace(now, since=None)
    return replace(now, since=base.until)


def _is_present() -> Column:
    return F.col(_TYPE).isin(*_PRESENT)


def latest_changes(feed: DataFrame) -> DataFrame:
    """The latest row of a change data feed for each key. A key deleted and inserted in one commit is present."""
    latest = Window.partitionBy(KEY).orderBy(F.desc(_VERSION), F.desc(_is_present()))
    ranked = feed.where(F.col(_TYPE) != "update_preimage").withColumn("_rank", F.row_number().over(latest))
    return ranked.where("_rank = 1").drop("_rank")


def rows_of(keys: DataFrame, found: Changes, snapshot: DataFrame) -> DataFrame:
    """The rows of `keys`: from the changes where they are among them, else from the table's snapshot.

    The snapshot is not read when the changes hold all of them: a night's cost follows its new rows.
    """
    if found.full_scan:
        return found.rows.join(keys, KEY, "left_semi")
    others = keys.join(found.keys(), KEY, "left_anti")
    if others.isEmpty():
        return found.rows.join(keys, KEY, "left_semi")
    elsewhere = snapshot.join(F.broadcast(others), KEY, "left_semi")
    return found.rows.join(keys, KEY, "left_semi").unionByName(elsewhere)


class UnreadableFeedError(Exception):
    """The change data feed can't answer; the table has to be looked at as a whole. Says why."""


@contextmanager
def _readable() -> Iterator[None]:
    """Within it, errors that say that the feed can't answer become UnreadableFeedError."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        why = _why(error)
        if why is None:
            raise
        raise UnreadableFeedError(why) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _why(error: BaseException) -> str | None:
    message = f"{getattr(error, 'getCondition', lambda: '')()} {error}"
    return next((meaning for mark, meaning in _UNREADABLE.items() if mark in message), None)
