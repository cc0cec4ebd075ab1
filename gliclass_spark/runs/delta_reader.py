"""Delta tables read without Spark, by delta-rs: in a second, and where there is no Java."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from pyarrow.fs import PyFileSystem

from gliclass_spark.errors import TableError

# Hadoop's names for stores that delta-rs, like all but Hadoop, calls otherwise.
_HADOOP = {"s3a://": "s3://", "s3n://": "s3://"}

_FIRST_COMMIT = "_delta_log/00000000000000000000.json"

StorageOptions = Mapping[str, str] | None


def delta_table(address: str, version: int | None = None, storage_options: StorageOptions = None) -> DeltaTable:
    """The table at a version (None: the latest). Credentials of a store come with `storage_options`, or from
    the environment, in the names of delta-rs. Raises TableError if there is none, or not at that version.
    """
    address = store_address(address)
    try:
        return DeltaTable(address, version, dict(storage_options) if storage_options else None)
    except TableNotFoundError:
        raise TableError(f"there is no Delta table at {address}; run the job that writes it first") from None
    except DeltaError as error:
        at = f"version {version} of " if version is not None else ""
        raise TableError(f"{at}{address} can't be read: {_first_line(error)}") from None


def began(address: str, storage_options: StorageOptions = None) -> datetime:
    """When version 0 of a table was written, as time travel counts it: the time of the commit's file, in UTC."""
    options = dict(storage_options) if storage_options else None
    files = PyFileSystem(DeltaStorageHandler(store_address(address), options))
    written: datetime = files.get_file_info(_FIRST_COMMIT).mtime
    return written


def store_address(address: str) -> str:
    """The address as all but Hadoop write it: s3://, say, for s3a://."""
    for theirs, ours in _HADOOP.items():
        if address.startswith(theirs):
            return ours + address.removeprefix(theirs)
    return address


def query(table: DeltaTable, sql: str) -> list[dict[str, Any]]:
    """The rows that the query gives; it calls the table `t`. Raises TableError if they can't be read."""
    try:
        found = QueryBuilder().register("t", table).execute(sql).read_all()
    except (DeltaError, OSError, ValueError) as error:
        raise TableError(f"{table.table_uri} can't be read: {_first_line(error)}") from None
    rows: list[dict[str, Any]] = pa.table(found).to_pylist(maps_as_pydicts="strict")
    return rows


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
