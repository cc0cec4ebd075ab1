"""Creation of Delta tables, and of columns that an existing table lacks."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DateType,
    MapType,
    NullType,
    NumericType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
    VariantType,
)

from gliclass_spark.errors import TableError
from gliclass_spark.spark.delta import file_system
from gliclass_spark.spark.delta.column_names import column, quoted
from gliclass_spark.spark.delta.commits import retry_conflicts
from gliclass_spark.spark.delta.ddl import assignments, column_definitions, literal
from gliclass_spark.spark.delta.schema import TableSpec
from gliclass_spark.spark.delta.table_ref import TableRef

logger = logging.getLogger(__name__)

_LOG, _STAGED_COMMITS = "_delta_log", "_staged_commits"
# How long to wait for another run that may be creating the table at this moment.
_CREATION_TIMEOUT_S = 10.0
# A cluster may set these by default. Some readers, delta-rs among them, can't read such tables, and the compatibility
# with Iceberg excludes deletion vectors.
_DEFAULTS_OFF = ("enableTypeWidening", "enableIcebergCompatV1", "enableIcebergCompatV2", "enableIcebergCompatV3")
# Without column mapping, Delta takes no column name with one of these.
_NEEDS_COLUMN_MAPPING = re.compile(r"[ ,;{}()\n\t=]")
_COLUMN_MAPPING = ("delta.columnMapping.mode", "name")
# The types that Delta stores, apart from struct, array and map.
_STORED = (StringType, BinaryType, BooleanType, NumericType, DateType, TimestampType, TimestampNTZType, VariantType)


def missing_columns(spark: SparkSession, table: TableRef, schema: StructType) -> tuple[str, ...]:
    """Return the columns of `schema` that the table lacks; none if there is no table yet.

    Raises TableError if files other than a Delta table are there, or if a column has another type.
    """
    current = current_schema(spark, table)
    if current is None:
        return ()
    types = {field.name.lower(): field.dataType.simpleString() for field in current}
    for expected in schema:
        current_type = types.get(expected.name.lower(), expected.dataType.simpleString())
        if current_type != expected.dataType.simpleString():
            raise TableError(
                f"{table.name}: column {expected.name!r} should be {expected.dataType.simpleString()}, found "
                f"{current_type}; someone altered it: bring back an earlier version (RESTORE TABLE "
                "... TO VERSION AS OF ...), or move the table away and run again"
            )
    return tuple(field.name for field in schema if field.name.lower() not in types)


def current_schema(spark: SparkSession, table: TableRef) -> StructType | None:
    """Return the table's schema; None if there is no table yet. Raises TableError if other files are at its path."""
    return table.read(spark, None).schema if is_created(spark, table) else None


def is_created(spark: SparkSession, table: TableRef) -> bool:
    """Return whether there is the table. Raises TableError if other files are at its path."""
    if table.exists(spark):
        return True
    path = table.folder(spark)
    if path is None or not file_system.list_names(spark, path) or _is_unfinished(spark, path):
        return False
    unnamed = TableRef(path=path)
    if table.table is None or not unnamed.exists(spark):
        raise TableError(f"{path} holds files, but is no Delta table; move them, or name another folder in 'tables'")
    if unnamed.latest(spark).until != 0:
        raise TableError(
            f"{path} holds a Delta table that the catalog does not know as {table.name}; "
            f"run: {_registration(table, path)}"
        )
    return False


def check_storable(schema: StructType, source: str) -> None:
    """Raise TableError for a column that no Delta table can store. `source` names the documents in the message."""
    for field in schema:
        unstorable = _unstorable_type(field.dataType, top=True)
        if unstorable is not None:
            raise TableError(
                f"{source}: Delta can't store the column {field.name!r}, which holds {unstorable.simpleString()}; cast "
                "it in a view, or leave it out: name the columns to keep in source.columns"
            )
        if "`" in field.name:
            raise TableError(
                f"{source}: Delta can't update a table with the column {field.name!r}, whose name has a backquote; "
                "rename it in a view, or leave it out: name the columns to keep in source.columns"
            )


def ensure(spark: SparkSession, table: TableRef, spec: TableSpec) -> tuple[str, ...]:
    """Create the table, or the columns and constraints that it lacks. Return the columns that it lacked.

    A column that may be null in `spec` may be so afterwards. Completes a creation that was killed. Raises TableError as
    `missing_columns` does.
    """
    missing = missing_columns(spark, table, spec.schema)
    if create(spark, table, spec):
        return ()
    if missing:
        # No ALTER TABLE: it would take the types as SQL, in which a field's name could hold more columns.
        no_rows = spark.createDataFrame([], spec.schema)
        retry_conflicts(lambda: table.append(no_rows, mergeSchema="true"), table.name)
    for field in table.read(spark, None).schema:
        if not field.nullable and field.name in spec.schema.names and field.name not in spec.not_null:
            _alter(spark, table, f"ALTER COLUMN {quoted(field.name)} DROP NOT NULL")
    if spec.settings:
        apply_settings(spark, table, spec, table.properties(spark))
    names = {name.lower() for name in table.property_names(spark)} if spec.constraints else set()
    for name, condition in spec.constraints.items():
        if f"delta.constraints.{name}" not in names:
            _alter(spark, table, f"ADD CONSTRAINT {name} CHECK ({condition})")
    return missing


def create(spark: SparkSession, table: TableRef, spec: TableSpec) -> bool:
    """Create the table if there is none, and complete a creation that was killed. Return whether it was created."""
    if table.exists(spark):
        return False
    folder = table.folder(spark)
    if folder is not None and file_system.list_names(spark, folder):
        if table.table is not None and TableRef(path=folder).exists(spark):
            # A run was killed between the table's first commit and the catalog's entry.
            spark.sql(_registration(table, folder))
            return False
        _remove_unfinished(spark, folder)
    retry_conflicts(lambda: _create(spark, table, spec), table.name)
    return True


def apply_settings(spark: SparkSession, table: TableRef, spec: TableSpec, current: Mapping[str, str]) -> None:
    """Set the properties of the pipeline's file on an existing table, but for those that it has."""
    folded = {name.lower(): value for name, value in current.items()}
    changed = {name: value for name, value in spec.settings.items() if folded.get(name.lower()) != value}
    if changed:
        _alter(spark, table, f"SET TBLPROPERTIES ({assignments(changed)})")


def with_comments(rows: DataFrame, spec: TableSpec) -> DataFrame:
    """Return the rows with the comments of their columns, for a write that replaces a table's columns."""
    return rows.select(*(column(field.name).alias(field.name, metadata=field.metadata) for field in _commented(spec)))


def enable_features(spark: SparkSession, table: TableRef, schema: StructType) -> None:
    """Set the properties without which the existing table takes no columns of these names and types."""
    properties = dict([_COLUMN_MAPPING]) if _has_special_names(schema) else {}
    if "timestamp_ntz" in schema.simpleString():
        properties["delta.feature.timestampNtz"] = "supported"
    if properties:
        _alter(spark, table, f"SET TBLPROPERTIES ({assignments(properties)})")


def drop_columns(spark: SparkSession, table: TableRef, names: Iterable[str]) -> None:
    """Drop columns of a table with column mapping: with a change data feed, no commit of rows may drop them."""
    properties = table.properties(spark)
    if properties.get(_COLUMN_MAPPING[0], "none") != "none":
        _alter(spark, table, f"DROP COLUMNS ({', '.join(map(quoted, names))})")


def cluster(spark: SparkSession, table: TableRef, columns: Iterable[str]) -> None:
    """Cluster the table by these columns; a table that was overwritten is not clustered."""
    _alter(spark, table, f"CLUSTER BY ({', '.join(map(quoted, columns))})")


def _alter(spark: SparkSession, table: TableRef, change: str) -> None:
    retry_conflicts(lambda: spark.sql(f"ALTER TABLE {table.identifier} {change}"), table.name)


def _create(spark: SparkSession, table: TableRef, spec: TableSpec) -> None:
    properties = {f"delta.{name}": "false" for name in _DEFAULTS_OFF} | dict(spec.properties) | dict(spec.settings)
    properties |= {f"delta.constraints.{name}": condition for name, condition in spec.constraints.items()}
    if _has_special_names(spec.schema):
        properties |= dict([_COLUMN_MAPPING])
    # SQL, because Delta's builder takes no name of three parts.
    clauses = [
        f"CREATE TABLE IF NOT EXISTS {table.identifier} ({column_definitions(_commented(spec))}) USING delta",
        f"PARTITIONED BY ({', '.join(map(quoted, spec.partition_by))})" if spec.partition_by else "",
        f"CLUSTER BY ({', '.join(map(quoted, spec.cluster_by))})" if spec.cluster_by else "",
        f"LOCATION {literal(table.path)}" if table.table is not None and table.path is not None else "",
        f"COMMENT {literal(spec.comment)}" if spec.comment is not None else "",
        f"TBLPROPERTIES ({assignments(properties)})",
    ]
    spark.sql(" ".join(clauses))


def _commented(spec: TableSpec) -> StructType:
    """Return the columns of the table, with the comments and the constraints of the spec."""
    fields = []
    for field in spec.schema:
        comment = spec.comments.get(field.name, (field.metadata or {}).get("comment"))
        metadata = {} if comment is None else {"comment": comment}
        fields.append(StructField(field.name, field.dataType, field.name not in spec.not_null, metadata))
    return StructType(fields)


def _registration(table: TableRef, path: str) -> str:
    """Return the statement that makes the Delta table at the path known to the catalog."""
    return f"CREATE TABLE IF NOT EXISTS {table.identifier} USING delta LOCATION {literal(path)}"


def _has_special_names(data_type: DataType) -> bool:
    if isinstance(data_type, StructType):
        return any(
            _NEEDS_COLUMN_MAPPING.search(field.name) or _has_special_names(field.dataType) for field in data_type
        )
    if isinstance(data_type, ArrayType):
        return _has_special_names(data_type.elementType)
    return isinstance(data_type, MapType) and any(map(_has_special_names, (data_type.keyType, data_type.valueType)))


def _unstorable_type(data_type: DataType, *, top: bool = False) -> DataType | None:
    """Return the first type within `data_type` that Delta does not store, or None."""
    nested: list[DataType] = []
    if isinstance(data_type, StructType):
        nested = [field.dataType for field in data_type]
    elif isinstance(data_type, ArrayType):
        nested = [data_type.elementType]
    elif isinstance(data_type, MapType):
        nested = [data_type.keyType, data_type.valueType]
    elif not isinstance(data_type, _STORED) and not (top and isinstance(data_type, NullType)):
        return data_type
    return next((unstorable for each in nested if (unstorable := _unstorable_type(each)) is not None), None)


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
