"""Numbers of rows by a table's log, which must be those that Spark counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from gliclass_spark.errors import TableError
from gliclass_spark.runs import delta_reader
from gliclass_spark.spark.delta.table_ref import TableRef


@pytest.fixture
def table(spark: SparkSession, tmp_path: Path) -> TableRef:
    """A table of 12 rows in two files, then without four, then with two of the others changed, and one more."""
    table = TableRef(path=str(tmp_path / "documents"))
    rows = spark.range(12).repartition(2)
    rows.write.format("delta").option("delta.enableDeletionVectors", "true").save(table.path)
    table.handle(spark).delete("id % 3 = 0")
    table.handle(spark).update("id in (1, 2)", {"id": "id + 100"})
    table.append(spark.range(1))
    return table


def test_a_version_s_rows_are_counted_by_its_log(spark: SparkSession, table: TableRef) -> None:
    for version, count in enumerate((12, 8, 8, 9)):
        assert table.read(spark, version).count() == count
        assert delta_reader.row_count(str(table.path), version) == count
        assert table.row_count(spark, version) == count
    vectors = delta_reader.delta_table(str(table.path)).deletion_vectors()
    assert sum(batch.num_rows for batch in vectors) > 0
    assert table.row_count(spark, None) == 9


def test_spark_counts_what_the_log_does_not_state(spark: SparkSession, table: TableRef, tmp_path: Path) -> None:
    checksums = [*Path(str(table.path), "_delta_log").glob("*.crc")]
    for checksum in checksums:
        checksum.write_text("{")  # as it is while it is written
    with pytest.raises(TableError, match="can't be read: Expecting property name"):
        delta_reader.row_count(str(table.path))
    assert table.row_count(spark, None) == 9
    for checksum in checksums:
        checksum.unlink()
    assert delta_reader.row_count(str(table.path)) is None
    assert table.row_count(spark, None) == 9
    without_statistics = TableRef(path=str(tmp_path / "without_statistics"))
    spark.conf.set("spark.databricks.delta.stats.collect", "false")
    try:
        spark.range(3).write.format("delta").save(without_statistics.path)
    finally:
        spark.conf.unset("spark.databricks.delta.stats.collect")
    assert delta_reader.row_count(str(without_statistics.path)) is None
    assert without_statistics.row_count(spark, None) == 3
