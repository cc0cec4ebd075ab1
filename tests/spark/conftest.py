"""A real Spark session with Delta."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from gliclass_spark.spark.session import spark_session


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    folder = tmp_path_factory.mktemp("spark")
    conf = folder / "test.yaml"
    conf.write_text(
        "spark.master: local[2]\n"
        f"spark.sql.warehouse.dir: {folder / 'warehouse'}\n"
        # For a handful of rows, planning and compiling take the time, not the rows.
        "spark.sql.shuffle.partitions: 2\n"
        "spark.sql.codegen.wholeStage: false\n"
        "spark.sql.codegen.factoryMode: NO_CODEGEN\n"
        "spark.sql.adaptive.enabled: false\n"
        "spark.databricks.delta.snapshotPartitions: 1\n"
    )
    session = spark_session(conf, app_name="tests")
    yield session
    session.stop()
