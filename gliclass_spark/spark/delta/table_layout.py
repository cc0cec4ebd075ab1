"""Layout of the tables of decided documents: partitions, clustering and properties that a pipeline's file sets."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import SparkSession
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    MapType,
    NullType,
    StructType,
    VariantType,
)

from gliclass_spark.config.output import Output
from gliclass_spark.errors import TableError
from gliclass_spark.spark.delta.schema import TableSpec
from gliclass_spark.spark.delta.table_creation import apply_settings, cluster
from gliclass_spark.spark.delta.table_ref import TableRef

# Delta has statistics, which clustering needs, of these many columns: the first ones, fields of structs counted alone.
_COLUMNS_WITH_STATISTICS = 32
_NO_PARTITION = (StructType, ArrayType, MapType, VariantType, NullType, BinaryType)
_NO_STATISTICS = (*_NO_PARTITION, BooleanType)


def check_columns(schema: StructType, output: Output, documents: str) -> None:
    """Raise TableError if the tables can't be laid out by the columns that `output` names.

    schema: the columns of a table. documents: the source's name.
    """
    fields = {field.name: (index, field.dataType) for index, field in enumerate(schema)}
    for key, refused in (("partition_by", _NO_PARTITION), ("cluster_by", _NO_STATISTICS)):
        for name in getattr(output, key):
            if name not in fields:
                raise TableError(
                    f"{documents}: output.{key} names {name!r}, which is no column of the tables; they have "
                    f"{', '.join(fields)}"
                )
            index, data_type = fields[name]
            if isinstance(data_type, refused):
                raise TableError(
                    f"{documents}: output.{key} names {name!r}, which is {data_type.simpleString()}; name a column of "
                    "text, numbers or times"
                )
            before = sum(_leaf_count(field.dataType) for field in schema.fields[:index])
            has_own_statistics = any("dataskipping" in key.lower() for key in output.properties)
            if key == "cluster_by" and before >= _COLUMNS_WITH_STATISTICS and not has_own_statistics:
                raise TableError(
                    f"{documents}: output.cluster_by names {name!r}, which is behind the {_COLUMNS_WITH_STATISTICS} "
                    "columns of which Delta has statistics; name it earlier in source.columns, or set "
                    "delta.dataSkippingStatsColumns in output.properties"
                )


def check_partitions(spark: SparkSession, tables: Iterable[TableRef], output: Output) -> None:
    """Raise TableError if a table that exists is partitioned by other columns than `output` says."""
    for table in tables if output.partition_by or output.cluster_by else ():
        if not table.exists(spark):
            continue
        current = tuple(table.handle(spark).detail().select("partitionColumns").collect()[0]["partitionColumns"])
        if current != output.partition_by:
            raise TableError(
                f"{table.name} is partitioned by {_listed(current)}, and output.partition_by says "
                f"{_listed(output.partition_by)}, which can't be changed: set it back, or drop the pipeline's tables "
                "of decided documents (kept, rejected, quarantined, one for each route) and run filter and route with "
                "--full"
            )


def apply_output(spark: SparkSession, table: TableRef, spec: TableSpec) -> None:
    """Set the properties and the clustering of the spec on an existing table that has them not yet."""
    [detail] = table.handle(spark).detail().select("properties", "clusteringColumns", "partitionColumns").collect()
    apply_settings(spark, table, spec, detail["properties"])
    if not detail["partitionColumns"] and detail["clusteringColumns"] != list(spec.cluster_by):
        cluster(spark, table, spec.cluster_by)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"


def _leaf_count(data_type: DataType) -> int:
    if isinstance(data_type, StructType):
        return sum(_leaf_count(field.dataType) for field in data_type)
    return 1
