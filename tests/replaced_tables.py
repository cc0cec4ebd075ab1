"""Delta tables whose files are replaced, as other processes do it."""

from __future__ import annotations

import shutil
from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession


def forget_logs(spark: SparkSession) -> None:
    """Make the session read the logs of all tables again; it would not see that other processes replaced them."""
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]


def create_again(path: Path, rows: DataFrame, empty_commits: int) -> None:
    """Replace the table by a new one with these rows, column mapping and a change data feed, and empty commits.

    `rows` must not read the table lazily.
    """
    spark = rows.sparkSession
    shutil.rmtree(path)
    forget_logs(spark)
    table = DeltaTable.create(spark).location(str(path)).addColumns(rows.schema)
    table = table.property("delta.columnMapping.mode", "name").property("delta.enableChangeDataFeed", "true")
    table.execute()
    for part in [rows, *[rows.limit(0)] * empty_commits]:
        part.write.format("delta").mode("append").save(str(path))
