"""References to Delta tables, by path or by catalog name."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.errors import TableError
from gliclass_spark.runs import delta_reader
from gliclass_spark.runs.commit_identity import IDENTITY_BYTES, commit_file, commit_identity
from gliclass_spark.runs.manifest import VersionRange
from gliclass_spark.spark.delta import file_system
from gliclass_spark.spark.delta.column_names import quoted
from gliclass_spark.spark.spark_errors import is_access_error

_SESSION_CATALOG = "spark_catalog"
_FEED_OFF = (
    "its change data feed was off; to read changes alone, switch it on: "
    "ALTER TABLE ... SET TBLPROPERTIES (delta.enableChangeDataFeed = true)"
)
# Parts of Spark's and Delta's error messages, and the reason that ours give for them.
_UNREADABLE = {
    "DELTA_CHANGE_TABLE_FEED_DISABLED": _FEED_OFF,
    "DELTA_MISSING_CHANGE_DATA": _FEED_OFF,
    "INCOMPATIBLE_SCHEMA_CHANGE": "its schema changed",
    "INCOMPATIBLE_DATA_SCHEMA": "its schema changed",
    "DELTA_CDC_START_VERSION_AFTER_LATEST": "it has fewer versions than before",
    "TIME_TRAVEL_BEYOND_DELETED_FILE_RETENTION": "it is older than the table's delta.deletedFileRetentionDuration",
    "DELTA_VERSION_NOT_FOUND": "its log was cleaned up",
    "DELTA_LOG_FILE_NOT_FOUND": "its log was cleaned up",
    "DELTA_FILE_NOT_FOUND": "vacuum removed its files",
    "FILE_NOT_EXIST": "vacuum removed its files",
    "FileNotFoundException": "vacuum removed its files",
}


class NotADeltaTableError(TableError):
    """There is no Delta table at the path, or under the name."""


@dataclass(frozen=True)
class TableRef:
    """A Delta table, by its path or by its name in the catalog, in SQL's spelling.

    With both, it is read and written by its name, and created at the path: an external table.
    """

    path: str | None = None
    table: str | None = None

    @property
    def name(self) -> str:
        """The table's name in messages."""
        return self.table or str(self.path)

    @property
    def identifier(self) -> str:
        """The table's name in SQL statements."""
        return self.table or f"delta.{quoted(str(self.path))}"

    def exists(self, spark: SparkSession) -> bool:
        """Return whether there is a Delta table.

        Raises TableError if its name is that of something else, or if the schema of its name does not exist.
        """
        if self.table is None:
            return DeltaTable.isDeltaTable(spark, str(self.path))
        try:
            self.handle(spark)
        except NotADeltaTableError:
            schema = self.table.rpartition(".")[0]
            if not spark.catalog.databaseExists(schema):
                raise TableError(
                    f"there is no schema {schema} for the tables; correct tables.schema, or run: CREATE SCHEMA {schema}"
                ) from None
            if spark.catalog.tableExists(self.table):
                raise TableError(
                    f"{self.table} is no Delta table; rename it, or name another schema in 'tables'"
                ) from None
            return False
        return True

    def folder(self, spark: SparkSession) -> str | None:
        """Return where the table is created; None if the catalog chooses a folder that is not known before."""
        if self.path is not None or self.table is None:
            return self.path
        *catalog, schema, name = self.table.rsplit(".", 2)
        if (catalog or [spark.catalog.currentCatalog()]) != [_SESSION_CATALOG]:
            return None
        description = spark.sql(f"DESCRIBE SCHEMA {_SESSION_CATALOG}.{schema}").collect()
        [location] = [row["info_value"] for row in description if row["info_name"] == "Location"]
        return f"{location}/{name.strip('`').lower()}"

    def location(self, spark: SparkSession) -> str:
        """Return where the existing table is."""
        if self.path is not None:
            return self.path
        handle = self.handle(spark)
        if (snapshot := _snapshot(handle)) is not None:
            return str(snapshot.dataPath().toString())
        return str(handle.detail().select("location").collect()[0]["location"])

    def local_path(self, spark: SparkSession) -> str | None:
        """Return the table's path if delta-rs can be tried there: on a local disk.

        It reads and appends in milliseconds, where Spark takes a third and half a second. But it can't handle every
        table that Spark can. Raises NotADeltaTableError if there is no table of this name in the catalog.
        """
        if self.path is not None:
            return self.path if file_system.is_on_local_disk(spark, self.path) else None
        snapshot = _snapshot(self.handle(spark))
        return file_system.local_path(str(snapshot.dataPath().toString())) if snapshot is not None else None

    def handle(self, spark: SparkSession) -> DeltaTable:
        """Return Delta's handle of the table. Raises NotADeltaTableError if there is none."""
        try:
            if self.table is not None:
                return DeltaTable.forName(spark, self.table)
            return DeltaTable.forPath(spark, str(self.path))
        except AnalysisException as error:
            if is_access_error(error):
                raise
            raise NotADeltaTableError(
                f"there is no Delta table at {self.name}; run the job that writes it first"
            ) from None

    def properties(self, spark: SparkSession) -> dict[str, str]:
        """Return the properties of the existing table."""
        properties: dict[str, str] = self.handle(spark).detail().select("properties").collect()[0]["properties"]
        return properties

    def property_names(self, spark: SparkSession) -> set[str]:
        """Return the names of the properties of the existing table, without computing its state, as `detail` does.

        Their values would be redacted where a name looks like that of a secret or a URL.
        """
        return {row["key"] for row in spark.sql(f"SHOW TBLPROPERTIES {self.identifier}").collect()}

    def latest(self, spark: SparkSession, until: datetime | None = None) -> VersionRange:
        """Return the range of all versions up to the latest one, or to the latest at the time `until`.

        Raises TableError if the table has no version at or before that time.
        """
        handle = self.handle(spark)
        if until is None and (snapshot := _snapshot(handle)) is not None:
            return VersionRange(snapshot.metadata().id(), None, snapshot.version())
        table_id = handle.detail().select("id").collect()[0]["id"]
        if until is None:
            return VersionRange(table_id, None, int(handle.history(1).select("version").collect()[0]["version"]))
        commits = handle.history().where(F.col("timestamp") <= F.lit(until))
        version = commits.agg(F.max("version").alias("version")).collect()[0]["version"]
        if version is None:
            first = handle.history().agg(F.min("timestamp").alias("first")).collect()[0]["first"]
            raise TableError(
                f"{self.name} has no version of {until} or before: its earliest one is of {first}; take a later time"
            )
        return VersionRange(table_id, None, int(version))

    def commit_id(self, spark: SparkSession, version: int | None) -> str | None:
        """Return the identity of the version's commit; None without a version, or if the log lacks its file."""
        if version is None:
            return None
        folder = self.location(spark).rstrip("/")
        head = file_system.read_head(spark, f"{folder}/{commit_file(version)}", IDENTITY_BYTES)
        return commit_identity(*head) if head is not None else None

    def discontinuity(
        self, spark: SparkSession, base: VersionRange, base_commit: str | None, current: VersionRange
    ) -> str | None:
        """Return why the versions after `base` are not all that has changed since it was read; None if they are.

        base_commit: the identity of its last version when it was read; None in rows of 0.1, where the ids of the
        tables are compared instead.
        """
        if base.until is None or current.until is None:
            return "no version of it was read before"
        if base_commit is None:
            return None if base.table_id == current.table_id else "it was created again"
        commit = self.commit_id(spark, base.until)
        if commit is None and base.until > current.until:
            return "it has fewer versions than were read before: it was put back from a copy"
        if commit is None:
            return "its log was cleaned up"
        if commit != base_commit:
            return f"its version {base.until} is not the one that was read before: it was put back or created again"
        return "a later version was read before" if base.until > current.until else None

    def read(self, spark: SparkSession, version: int | None) -> DataFrame:
        """Return the table at the version (None: the latest). Raises TableError if that version can't be read."""
        reader = spark.read.option("versionAsOf", version) if version is not None else spark.read
        try:
            return self._load(reader)
        except (AnalysisException, PySparkException) as error:
            self.handle(spark)  # raises if there is no table at all
            reason = unreadable_reason(error) or str(error).strip().splitlines()[0]
            raise TableError(
                f"version {version} of {self.name} can't be read any more ({reason}); "
                "run the tag job again, and then this one"
            ) from None

    def row_count(self, spark: SparkSession, version: int | None) -> int:
        """Return the number of rows at the version (None: the latest)."""
        with suppress(TableError):
            if (path := self.local_path(spark)) is not None:
                count = delta_reader.row_count(path, version)
                if count is not None:
                    return count
        return self.read(spark, version).count()

    def change_feed(self, spark: SparkSession, versions: VersionRange) -> DataFrame:
        """Return the change data feed of the versions, with _change_type and _commit_version.

        It is lazy: a feed that can't be read raises when Spark computes it.
        """
        reader = spark.read.option("readChangeFeed", "true").option("startingVersion", int(versions.since or 0) + 1)
        reader = reader.option("endingVersion", int(versions.until or 0))
        return self._load(reader).drop("_commit_timestamp")

    def append(self, rows: DataFrame, **options: object) -> None:
        """Append rows in one commit. options: those of Delta's writer."""
        writer = rows.write.format("delta").mode("append").options(**options)  # type: ignore[arg-type]
        writer.saveAsTable(self.table) if self.table else writer.save(self.path)

    def overwrite(self, rows: DataFrame, **options: object) -> None:
        """Replace all rows in one commit. The table stays partitioned, but not clustered. options: as in `append`."""
        detail = self.handle(rows.sparkSession).detail().select("partitionColumns").collect()[0]
        writer = rows.write.format("delta").mode("overwrite").options(**options)  # type: ignore[arg-type]
        writer = writer.partitionBy(detail["partitionColumns"]) if detail["partitionColumns"] else writer
        writer.saveAsTable(self.table) if self.table else writer.save(self.path)

    def _load(self, reader: DataFrameReader) -> DataFrame:
        return reader.table(self.table) if self.table else reader.format("delta").load(self.path)


def _snapshot(handle: DeltaTable) -> Any | None:
    """Return the JVM's `Snapshot` of the latest version, for which Spark runs no job as for `detail` and `history`.

    None if a catalog manages the table's commits, some of which the log may lack; and where Delta's handle gives no
    access to the log, which is not in its API.
    """
    if "deltaLog" not in dir(handle._jdt):
        return None
    log = handle._jdt.deltaLog()
    if log.unsafeVolatileSnapshot().isCatalogOwned():
        return None
    defaults = (getattr(log, f"update$default${position}")() for position in (1, 2, 3))
    return log.update(*defaults)


def unreadable_reason(error: BaseException) -> str | None:
    """Return why Delta can't read a version or a feed any more; None for any other error."""
    message = f"{getattr(error, 'getCondition', lambda: '')()} {error}"
    return next((reason for part, reason in _UNREADABLE.items() if part in message), None)
