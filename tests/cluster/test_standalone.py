"""The cluster that other tests rely on starts, takes what is done to it, and is gone in the end."""

from __future__ import annotations

import psutil

from devtools.standalone_cluster import StandaloneCluster

SUM = """
import sys
from pyspark.sql import SparkSession
builder = SparkSession.builder.master(sys.argv[1]).config("spark.driver.host", "127.0.0.1")
spark = builder.config("spark.executor.memory", "512m").config("spark.ui.enabled", "false").getOrCreate()
print(spark.range(100).selectExpr("sum(id)").first()[0])
spark.stop()
"""


def test_a_worker_can_be_killed_and_another_started_and_nothing_is_left_behind(cluster: StandaloneCluster) -> None:
    assert len(cluster.java_pids("Master")) == 1
    assert len(cluster.java_pids("Worker")) == 2
    cluster.kill(cluster.workers[0])
    assert len(cluster.java_pids("Worker")) == 1
    cluster.start_worker()
    assert len(cluster.java_pids("Worker")) == 2
    done = cluster.run(SUM)
    assert done.stdout.splitlines()[-1] == "4950", done.stderr[-3000:]
    pids = cluster.java_pids("Master") + cluster.java_pids("Worker")
    cluster.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)
