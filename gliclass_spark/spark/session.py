"""A Spark session with Delta, on this machine or on a cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from gliclass_spark.config.delta_jars import delta_settings
from gliclass_spark.config.spark import read_conf
from gliclass_spark.errors import ConfigError, JavaError
from gliclass_spark.spark import java
from gliclass_spark.spark.worker import daemon

_ALWAYS = {
    "spark.python.daemon.module": daemon.MODULE,
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
# What suits one machine. Spark's own defaults are made for clusters: 200 shuffle partitions, and
# Delta's 50 snapshot partitions, make the first write of a few rows take a quarter of a minute, and
# the 10,000 tasks that list a table's files make a vacuum take a minute.
_LOCAL_SQL = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "4",
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",
}
_LOCAL = {
    "spark.master": "local[*]",
    "spark.driver.memory": "2g",
    "spark.log.level": "ERROR",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # A query with two Python steps starts two workers for a slot. Left idle, all of them would take turns from
    # then on, and each would load the model.
    "spark.python.factory.idleWorkerMaxPoolSize": str(len(os.sched_getaffinity(0))),
    **_LOCAL_SQL,
}
_TASK_GPUS = "spark.task.resource.gpu.amount"


def spark_session(conf: str | Path | None = None, *, app_name: str = "gliclass-spark") -> SparkSession:
    """The active session if there is one, else a new one with Delta.

    An active session (Databricks, EMR, a notebook) is left as it is. `conf` names a file of
    conf/spark: Spark's settings as `key: value`; they come on top of the defaults for one machine
    where the file, or spark-submit, names no other master. Raises JavaError, ConfigError.
    """
    active = active_session()
    if active is not None:
        return active
    if "SPARK_REMOTE" in os.environ:
        return SparkSession.builder.appName(app_name).getOrCreate()
    found = java.problem()
    if found:
        raise JavaError(found)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit has chosen the master and the jars
    settings = read_conf(conf)
    if not submitted and settings.get("spark.master", "local").startswith("local"):
        settings = on_one_machine(settings, conf)
        # A worker is started as whatever `python3` is on the PATH unless this says otherwise.
        os.environ["PYSPARK_PYTHON"] = sys.executable
    # spark-submit has named the application too: by its --name, or by its file.
    builder = SparkSession.builder if submitted else SparkSession.builder.appName(app_name)
    fetched = {} if submitted else delta_settings(settings)
    for key, value in {**_ALWAYS, **fetched, **settings}.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    if submitted and str(spark.sparkContext.master).startswith("local"):
        chosen = spark.sparkContext.getConf()
        for key, value in _LOCAL_SQL.items():
            if not chosen.contains(key):
                spark.conf.set(key, value)
    return spark


def on_one_machine(settings: dict[str, str], conf: str | Path | None) -> dict[str, str]:
    """The settings of the file `conf` on top of what suits one machine. Raises ConfigError for GPUs for tasks."""
    if _TASK_GPUS in settings and not settings.get("spark.master", "local").startswith("local-cluster"):
        raise ConfigError(
            f"{conf}: {_TASK_GPUS} is set, but Spark on one machine gives tasks no GPUs, and would wait for "
            "them for ever; set spark.master to a cluster, or remove the setting"
        )
    return {**_LOCAL, **settings}


def active_session() -> SparkSession | None:
    """The session that this process already has, if any."""
    return SparkSession.getActiveSession()


@contextmanager
def configured(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """Within it, the session has these settings; all of them must have a default."""
    before = {name: spark.conf.get(name) for name in settings}
    try:
        for name, value in settings.items():
            spark.conf.set(name, value)
        yield
    finally:
        for name, earlier in before.items():
            spark.conf.set(name, str(earlier))


def task_slots(spark: SparkSession) -> int:
    """How many tasks the session runs at once; 1 where it can't be known (Spark Connect)."""
    context = getattr(spark, "_sc", None)
    return int(context.defaultParallelism) if context is not None else 1


def threads_per_task(spark: SparkSession) -> int:
    """The CPU threads that each of the workers on one machine may use, so that together they fill it.

    On one machine the slots share its processors; on a cluster a task owns `spark.task.cpus`.
    """
    if str(spark.conf.get("spark.master", "")).startswith("local"):
        return max(1, len(os.sched_getaffinity(0)) // task_slots(spark))
    return int(spark.conf.get("spark.task.cpus", "1") or 1)
