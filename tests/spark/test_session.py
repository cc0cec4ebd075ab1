"""Spark session: the state in which its Python workers start."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
from pyspark.sql import SparkSession


def test_a_worker_starts_with_torch_and_the_engine_imported_and_cuda_uninitialised(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inspect(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import sys

        for _ in batches:
            imported = {"torch", "gliclass_spark.inference.engine"} <= sys.modules.keys()
            yield pd.DataFrame({"ready": [imported], "cuda": [sys.modules["torch"].cuda.is_initialized()]})

    # Another environment starts another daemon: a worker that ran other tests may have imported anything.
    monkeypatch.setitem(spark.sparkContext.environment, "WORKERS_OF", "test_session")
    [row] = spark.range(1).mapInPandas(inspect, "ready boolean, cuda boolean").collect()
    assert (row["ready"], row["cuda"]) == (True, False)
