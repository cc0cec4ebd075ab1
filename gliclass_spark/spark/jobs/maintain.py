"""The lake's care: small files joined, files that no version needs any more removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.spark.delta.commits import conflicts_retried
from gliclass_spark.spark.delta.tables import Lake

_OWN_TABLES = ("tags", "staged", "kept", "rejected", "quarantined", "runs", "feedback")


@dataclass(frozen=True)
class Care:
    """What was done for one table. Sizes are of the present version, in bytes."""

    table: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


def maintain(spark: SparkSession, pipeline: Pipeline) -> Iterator[Care]:
    """Compact each table of the pipeline, then remove the files that left it longer ago than its retention.

    The retention is the table's property `delta.deletedFileRetentionDuration`, 7 days unless it was set; Delta
    takes no other. A version, or a change data feed, that reaches back further can't be read afterwards; a
    run that needs one compares whole tables instead.
    """
    lake = Lake(pipeline.tables)
    names = [name for name in (*_OWN_TABLES, *pipeline.rules.destinations) if lake.exists(spark, name)]
    for name in names:
        table = DeltaTable.forPath(spark, lake.path(name))
        before = _size(table)
        conflicts_retried(lambda table=table: table.optimize().executeCompaction(), lake.path(name))  # type: ignore[misc]
        table.vacuum()
        after = _size(table)
        yield Care(name, before[0], after[0], before[1], after[1])


def _size(table: DeltaTable) -> tuple[int, int]:
    row = table.detail().select("numFiles", "sizeInBytes").collect()[0]
    return int(row["numFiles"]), int(row["sizeInBytes"])
