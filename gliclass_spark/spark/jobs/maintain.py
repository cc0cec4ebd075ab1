"""Maintenance of a pipeline's tables: compaction of small files, and vacuum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.spark.delta.commits import retry_conflicts
from gliclass_spark.spark.delta.lake import Lake
from gliclass_spark.spark.delta.runs_table import Runs

_FIXED_TABLES = ("tags", "staged", "shadow_tags", "kept", "rejected", "quarantined", "runs", "feedback")


@dataclass(frozen=True)
class TableSize:
    """The size of a table's latest version, before and after its maintenance."""

    table: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


def maintain(spark: SparkSession, pipeline: Pipeline) -> Iterator[TableSize]:
    """Compact each table of the pipeline, then vacuum the files that left it longer ago than its retention.

    The retention is the table's property `delta.deletedFileRetentionDuration`, 7 days unless it was set; Delta
    takes no other. Versions and change data feeds before it can't be read afterwards; a run that needs one
    makes a full scan instead.
    """
    lake = Lake(pipeline.tables)
    # Tables of former routes, too: a run emptied them, and their old files hold the texts of documents.
    destinations = {*pipeline.rules.destinations, *Runs(spark, lake.table("runs"), pipeline.name).destinations()}
    names = [name for name in (*_FIXED_TABLES, *sorted(destinations)) if lake.exists(spark, name)]
    for name in names:
        ref = lake.table(name)
        table = ref.handle(spark)
        before = _size(table)
        retry_conflicts(lambda table=table: table.optimize().executeCompaction(), ref.name)  # type: ignore[misc]
        table.vacuum()
        after = _size(table)
        yield TableSize(name, before[0], after[0], before[1], after[1])


def _size(table: DeltaTable) -> tuple[int, int]:
    """Return the number of files, and their bytes."""
    row = table.detail().select("numFiles", "sizeInBytes").collect()[0]
    return int(row["numFiles"]), int(row["sizeInBytes"])
