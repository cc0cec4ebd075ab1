"""A session of ours: what its Python workers start with."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from pyspark.sql import SparkSession


def test_a_worker_is_forked_with_torch_and_without_cuda(spark: SparkSession) -> None:
    def look(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import sys

        for _ in batches:
            started = "torch" in sys.modules and "transformers.modeling_utils" in sys.modules
            yield pd.DataFrame({"ready": [started], "cuda": [sys.modules["torch"].cuda.is_initialized()]})

    [row] = spark.range(1).mapInPandas(look, "ready boolean, cuda boolean").collect()
    assert (row["ready"], row["cuda"]) == (True, False)
