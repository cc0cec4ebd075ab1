"""A few rows of the driver's as a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType


def local_rows(spark: SparkSession, rows: Sequence[Mapping[str, Any]], schema: StructType) -> DataFrame:
    """Return the rows as a DataFrame, by way of Arrow. Times need a zone.

    From a list, Spark makes a DataFrame by way of a Python worker: a job without other Python work would start
    one, with all that our workers import.
    """
    records = [{name: _map_items(value) for name, value in row.items()} for row in rows]
    table = pa.Table.from_pylist(records, schema=to_arrow_schema(schema, timezone="UTC"))
    return spark.createDataFrame(table, schema)


def _map_items(value: Any) -> Any:
    """Return a mapping as the list of pairs that Arrow expects; other values unchanged."""
    return list(value.items()) if isinstance(value, Mapping) else value
