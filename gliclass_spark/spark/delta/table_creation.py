"""Creation of Delta tables, and of columns that an existing table lacks."""

from __future__ import annotations

import logging
import time
from functools import partial

from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from gliclass_spark.errors import TableError
from gliclass_spark.spark.delta import file_system
from gliclass_spark.spark.delta.commits import retry_conflicts
from gliclass_spark.spark.delta.schema import TableSpec

logger = logging.getLogger(__name__)

_LOG, _STAGED_COMMITS = "_delta_log", "_staged_commits"
# How long to wait for another run that may be creating the table at this moment.
_CREATION_TIMEOUT_S = 10.0


def missing_columns(spark: SparkSession, path: str, schema: StructType) -> tuple[str, ...]:
    """Return the columns of `schema` that the table at `path` lacks; none if there is no table yet.

    Raises TableError if files other than a Delta table are there, or if a column has another type.
    """
    if not DeltaTable.isDeltaTable(spark, path):
        if file_system.list_names(spark, path) and not _is_unfinished(spark, path):
            raise TableError(
                f"{path} holds files, but is no Delta table; move them, or name another folder in 'tables'"
            )
        return ()
    current = {field.name.lower(): field for field in spark.read.format("delta").load(path).schema}
    for expected in schema:
        column = current.get(expected.name.lower())
        if column is not None and column.dataType.simpleString() != expected.dataType.simpleString():
            raise TableError(
                f"{path}: column {expected.name!r} should be {expected.dataType.simpleString()}, found "
                f"{column.dataType.simpleString()}; someone altered it: bring back an earlier version (RESTORE TABLE "
                "... TO VERSION AS OF ...), or move the table away and run again"
            )
    return tuple(field.name for field in schema if field.name.lower() not in current)


def ensure(spark: SparkSession, path: str, spec: TableSpec) -> tuple[str, ...]:
    """Create the table, or the columns and constraints that it lacks. Return the columns that it lacked.

    Completes a creation that was killed. Raises TableError as `missing_columns` does.
    """
    missing = missing_columns(spark, path, spec.schema)
    if not DeltaTable.isDeltaTable(spark, path):
        if file_system.list_names(spark, path):
            _remove_unfinished(spark, path)
        retry_conflicts(lambda: _create(spark, path, spec), path)
    elif missing:
        added = StructType([field for field in spec.schema if field.name in missing])
        columns = ", ".join(f"{_quoted(field.name)} {field.dataType.simpleString()}" for field in added)
        retry_conflicts(lambda: spark.sql(f"ALTER TABLE {_sql_path(path)} ADD COLUMNS ({columns})"), path)
    if not spec.constraints:
        return missing
    properties = DeltaTable.forPath(spark, path).detail().select("properties").collect()[0]["properties"]
    for name, condition in spec.constraints.items():
        if f"delta.constraints.{name}" not in {key.lower() for key in properties}:
            statement = f"ALTER TABLE {_sql_path(path)} ADD CONSTRAINT {name} CHECK ({condition})"
            retry_conflicts(partial(spark.sql, statement), path)
    return missing


def _create(spark: SparkSession, path: str, spec: TableSpec) -> None:
    table = DeltaTable.createIfNotExists(spark).location(path)
    for field in spec.schema:
        table = table.addColumn(field.name, field.dataType, nullable=field.name not in spec.not_null)
    if spec.cluster_by:
        table = table.clusterBy(*spec.cluster_by)
    for name, value in spec.properties.items():
        table = table.property(name, value)
    table.execute()


def _is_unfinished(spark: SparkSession, path: str) -> bool:
    """Return whether the folder holds a log without a commit and nothing else, as a killed creation leaves it."""
    log = f"{path}/{_LOG}"
    names = file_system.list_names(spark, log)
    only_remains = file_system.list_names(spark, path) == [_LOG] and _remains(names) == names
    return only_remains and not file_system.list_names(spark, f"{log}/{_STAGED_COMMITS}")


def _remains(log_names: list[str]) -> list[str]:
    """Return the names in a log that no table needs: temporary files of commits, and the folder of staged commits."""
    return [name for name in log_names if name == _STAGED_COMMITS or (name.startswith(".") and name.endswith(".tmp"))]


def _remove_unfinished(spark: SparkSession, path: str) -> None:
    """Remove a log without a commit, over which Delta creates no table, unless another run commits meanwhile."""
    deadline = time.monotonic() + _CREATION_TIMEOUT_S
    while time.monotonic() < deadline:
        time.sleep(_CREATION_TIMEOUT_S / 20)
        if not _is_unfinished(spark, path):
            return
    logger.warning("%s: a run was killed while it created this table; the rest of its log is removed", path)
    # File by file, and no folder that is not empty: a commit that arrives now is not removed.
    log = f"{path}/{_LOG}"
    for name in _remains(file_system.list_names(spark, log)):
        file_system.remove(spark, f"{log}/{name}")
    file_system.remove(spark, log)


def _sql_path(path: str) -> str:
    return f"delta.{_quoted(path)}"


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"
