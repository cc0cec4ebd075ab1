"""Delta tables as delta-rs reads them: what another engine than the one that wrote them finds.

Spark takes most of a test to plan its queries.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyspark.sql import SparkSession
from pyspark.sql.types import StructType, VariantVal

from gliclass_spark.runs.delta_reader import delta_table, query
from gliclass_spark.spark.delta.table_ref import TableRef


def stored_rows(table: str | Path, where: str = "true") -> list[dict[str, Any]]:
    """Return the rows of the table at a path, or those that meet a condition."""
    return query(delta_table(str(table)), f"select * from t where {where}")  # noqa: S608


def stored_table(spark: SparkSession, table: TableRef) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return the columns of a table, with their types as Spark spells them, and its rows."""
    stored = delta_table(urlsplit(table.location(spark)).path)
    schema = StructType.fromJson(json.loads(stored.schema().to_json()))
    columns = {field.name: field.dataType.simpleString() for field in schema}
    if "typeWidening" not in (stored.protocol().reader_features or ()):
        return columns, query(stored, "select * from t")
    # delta-rs does not read tables with this feature.
    rows = [row.asDict(recursive=True) for row in table.read(spark, None).collect()]
    return columns, [{name: _as_delta_rs(value) for name, value in row.items()} for row in rows]


def _as_delta_rs(value: Any) -> Any:
    return {"metadata": value.metadata, "value": value.value} if isinstance(value, VariantVal) else value
