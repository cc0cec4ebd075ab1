"""The folder of a pipeline's Delta tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from gliclass_spark.runs.manifest import VersionRange
from gliclass_spark.spark.delta.table_ref import TableRef


@dataclass(frozen=True)
class Lake:
    """The folder of a pipeline's tables."""

    root: str

    def path(self, name: str) -> str:
        """Return the path of a table."""
        return f"{self.root.rstrip('/')}/{name}"

    def table(self, name: str) -> TableRef:
        """Return a reference to a table, whether it exists or not."""
        return TableRef(path=self.path(name))

    def exists(self, spark: SparkSession, name: str) -> bool:
        """Return whether the table exists."""
        return DeltaTable.isDeltaTable(spark, self.path(name))

    def read(self, spark: SparkSession, name: str) -> DataFrame:
        """Return the latest version of a table. Raises TableError if there is none."""
        return self.table(name).read(spark, None)

    def latest(self, spark: SparkSession, names: Iterable[str]) -> dict[str, VersionRange]:
        """Return the range up to the latest version of each table."""
        return {name: self.table(name).latest(spark) for name in names}
