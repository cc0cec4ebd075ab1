"""Delta tables read by delta-rs, without Spark and Java."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import PyFileSystem

from gliclass_spark.errors import TableError
from gliclass_spark.runs.commit_identity import IDENTITY_BYTES, checksum_file, commit_file, commit_identity

# URI schemes that only Hadoop uses, and those of delta-rs.
_HADOOP_SCHEMES = {"s3a://": "s3://", "s3n://": "s3://"}

# Of delta-rs's message about a table that was made, or altered, for other readers.
_UNSUPPORTED_FEATURES = re.compile(r"Unsupported table features required: \[([^\]]+)\]")

_FIRST_COMMIT = "_delta_log/00000000000000000000.json"

StorageOptions = Mapping[str, str] | None


def delta_table(path: str, version: int | None = None, storage_options: StorageOptions = None) -> DeltaTable:
    """Return the table at a version (None: the latest).

    Credentials of an object store come with `storage_options`, or from the environment, in the names of
    delta-rs. Raises TableError if there is no table at the path or URI, or none of that version.
    """
    uri = object_store_uri(path)
    try:
        return DeltaTable(uri, version, dict(storage_options) if storage_options else None)
    except TableNotFoundError:
        raise TableError(f"there is no Delta table at {uri}; run the job that writes it first") from None
    except DeltaError as error:
        prefix = f"version {version} of " if version is not None else ""
        raise TableError(f"{prefix}{uri} can't be read: {first_reason(error)}") from None


def table_exists(path: str, storage_options: StorageOptions = None) -> bool:
    """Return whether there is a Delta table at the path or URI. Raises TableError if that can't be found out."""
    uri = object_store_uri(path)
    try:
        return DeltaTable.is_deltatable(uri, dict(storage_options) if storage_options else None)
    except (DeltaError, OSError) as error:
        raise TableError(f"{uri} can't be read: {first_reason(error)}") from None


def row_count(path: str, version: int | None = None, storage_options: StorageOptions = None) -> int | None:
    """Return the number of rows of a version (None: the latest) by what its log states; None if it does not state it.

    Raises TableError as `delta_table` does, and if the log can't be read.
    """
    table = delta_table(path, version, storage_options)
    deleted: int | None = 0  # by deletion vectors: the files' statistics count these rows, too
    try:
        counts = table.get_add_actions().column("num_records").to_pylist()
        if "deletionVectors" in (table.protocol().reader_features or ()):
            checksum = _read_log(path, checksum_file(table.version()), None, storage_options)
            deleted = json.loads(checksum[1]).get("numDeletedRecordsOpt") if checksum is not None else None
    except (DeltaError, OSError, ValueError) as error:
        raise TableError(f"{table.table_uri} can't be read: {first_reason(error)}") from None
    return None if deleted is None or None in counts else sum(counts) - deleted


def creation_time(path: str, storage_options: StorageOptions = None) -> datetime:
    """Return the time of a table's version 0 in UTC, as time travel counts it: that of the commit's file."""
    options = dict(storage_options) if storage_options else None
    files = PyFileSystem(DeltaStorageHandler(object_store_uri(path), options))
    modified: datetime = files.get_file_info(_FIRST_COMMIT).mtime
    return modified


def commit_id(path: str, version: int, storage_options: StorageOptions = None) -> str | None:
    """Return the identity of a version's commit (see `commit_identity`); None if the log does not have its file."""
    commit = _read_log(path, commit_file(version), IDENTITY_BYTES, storage_options)
    return commit_identity(*commit) if commit is not None else None


def _read_log(path: str, name: str, limit: int | None, storage_options: StorageOptions) -> tuple[int, bytes] | None:
    """Return the size of a file of a table's log and its first bytes, all by default; None if there is no such file."""
    options = dict(storage_options) if storage_options else None
    files = PyFileSystem(DeltaStorageHandler(object_store_uri(path), options))
    [info] = files.get_file_info([name])
    if not info.is_file:
        return None
    with files.open_input_file(name) as file:
        return info.size, file.read(limit)


def object_store_uri(path: str) -> str:
    """Return the path or URI with the scheme of delta-rs, such as s3:// for Hadoop's s3a://."""
    for hadoop_scheme, scheme in _HADOOP_SCHEMES.items():
        if path.startswith(hadoop_scheme):
            return scheme + path.removeprefix(hadoop_scheme)
    return path


def query(table: DeltaTable, sql: str) -> list[dict[str, Any]]:
    """Return the rows of a query on the table, named `t` in it. Raises TableError if they can't be read."""
    try:
        result = QueryBuilder().register("t", table).execute(sql).read_all()
    except (DeltaError, OSError, ValueError) as error:
        raise TableError(f"{table.table_uri} can't be read: {first_reason(error)}") from None
    arrow_table = pa.RecordBatchReader.from_stream(result).read_all()  # not pa.table, which imports pandas
    columns = [_values(column) for column in arrow_table.columns]
    return [dict(zip(arrow_table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return a column's values. Timestamps are converted here, because pyarrow imports pandas to do it."""
    if not pa.types.is_timestamp(column.type):
        values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
        return values
    zone = column.type.tz
    epoch = datetime(1970, 1, 1, tzinfo=UTC if zone else None)
    microseconds = column.cast(pa.timestamp("us", zone)).cast(pa.int64()).to_pylist()
    return [None if value is None else epoch + timedelta(microseconds=value) for value in microseconds]


def first_reason(error: Exception) -> str:
    """Return why delta-rs can't read or write a table, on one line."""
    line = str(error).strip().splitlines()[0]
    unsupported = _UNSUPPORTED_FEATURES.search(line)
    if unsupported is None:
        return line
    return (
        f"it has the table feature {unsupported[1]}, which Spark reads and delta-rs does not; take it off with Spark: "
        f"ALTER TABLE ... DROP FEATURE {unsupported[1]}"
    )
