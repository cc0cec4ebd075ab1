"""A few rows of the driver's as a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType


def local_rows(spark: SparkSession, rows: Sequence[Mapping[str, Any]], schema: StructType) -> DataFrame:
    """The rows, as Arrow carries them. Times need a zone.

    From a list, Spark makes a DataFrame by way of a Python worker: a job that does nothing else in Python would
    start one, with all that our workers import.
    """
    plain = [{name: _pairs(value) for name, value in row.items()} for row in rows]
    table = pa.Table.from_pylist(plain, schema=to_arrow_schema(schema, timezone="UTC"))
    return spark.createDataFrame(table, schema)


def _pairs(value: Any) -> Any:
    """Arrow takes a map as its pairs."""
    return list(value.items()) if isinstance(value, Mapping) else value
