"""The standalone cluster of the other tests: loss of a worker. The fixture checks that it stops."""

from __future__ import annotations

import pytest

from devtools.standalone_cluster import StandaloneCluster

pytestmark = pytest.mark.long

SUM = """
import sys
from pyspark.sql import SparkSession
builder = SparkSession.builder.master(sys.argv[1]).config("spark.driver.host", "127.0.0.1")
builder = builder.config("spark.executor.memory", "512m").config("spark.cores.max", "1")
spark = builder.config("spark.ui.enabled", "false").getOrCreate()
print(spark.range(100).selectExpr("sum(id)").first()[0])
spark.stop()
"""


def test_a_worker_can_be_killed_and_replaced(cluster: StandaloneCluster) -> None:
    assert len(cluster.java_pids("Master")) == 1
    assert len(cluster.java_pids("Worker")) == 2
    cluster.kill(next(worker for worker in cluster.workers if worker.poll() is None))
    assert len(cluster.java_pids("Worker")) == 1
    cluster.start_worker()
    assert len(cluster.java_pids("Worker")) == 2
    process = cluster.run(SUM)
    assert process.stdout.splitlines()[-1] == "4950", process.stderr[-3000:]
