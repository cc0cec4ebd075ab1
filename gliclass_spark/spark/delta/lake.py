"""A pipeline's Delta tables, in a folder or in a schema of the catalog."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from gliclass_spark.config.catalog import CatalogSchema, folder_of, table_path
from gliclass_spark.runs.manifest import VersionRange
from gliclass_spark.spark.delta.table_ref import TableRef


@dataclass(frozen=True)
class Lake:
    """A pipeline's tables. root: their folder, or their schema in the catalog."""

    root: str | CatalogSchema

    def path(self, name: str) -> str:
        """Return the path of a table. Raises ConfigError if the catalog alone knows it."""
        return table_path(self.root, name)

    def table(self, name: str) -> TableRef:
        """Return a reference to a table, whether it exists or not."""
        path = None if folder_of(self.root) is None else self.path(name)
        return TableRef(path, self.root.table(name) if isinstance(self.root, CatalogSchema) else None)

    def exists(self, spark: SparkSession, name: str) -> bool:
        """Return whether the table exists. Raises TableError if its schema does not."""
        return self.table(name).exists(spark)

    def read(self, spark: SparkSession, name: str) -> DataFrame:
        """Return the latest version of a table. Raises TableError if there is none."""
        return self.table(name).read(spark, None)

    def latest(self, spark: SparkSession, names: Iterable[str]) -> dict[str, VersionRange]:
        """Return the range up to the latest version of each table."""
        return {name: self.table(name).latest(spark) for name in names}
