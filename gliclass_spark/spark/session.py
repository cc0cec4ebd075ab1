"""Spark session with Delta, on this machine or on a cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from gliclass_spark.config.delta_jars import delta_settings
from gliclass_spark.config.spark import read_conf
from gliclass_spark.errors import ConfigError, JavaError
from gliclass_spark.spark import java
from gliclass_spark.spark.launch import launch_java, starting_spark
from gliclass_spark.spark.worker import daemon

_ALWAYS = {
    # Encodings of text files beyond UTF-8 and Latin-1, such as windows-1252, see `source.encoding`.
    "spark.sql.legacy.javaCharsets": "true",
    "spark.python.daemon.module": daemon.MODULE,
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
# Spark's defaults suit clusters. On one machine 200 shuffle partitions and Delta's 50 snapshot partitions make the
# first write of a few rows take 15 s, and the 10,000 tasks that list a table's files make a vacuum take a minute.
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
    # A query with two Python steps starts two workers per slot. Without this limit the idle ones would take turns
    # afterwards, and each would load the model.
    "spark.python.factory.idleWorkerMaxPoolSize": str(len(os.sched_getaffinity(0))),
    **_LOCAL_SQL,
}
_TASK_GPUS = "spark.task.resource.gpu.amount"


def spark_session(
    conf: str | Path | None = None, *, app_name: str = "gliclass-spark", log: Path | None = None
) -> SparkSession:
    """Return the active session if there is one, otherwise a new one with Delta.

    An active session (Databricks, EMR, a notebook) is left unchanged. `conf` is a file of Spark settings as
    `key: value`, see conf/spark. Unless it or spark-submit sets another master, its settings override the defaults
    for one machine. `log` is a file for all that Spark's Java process prints, if this starts one; None: it prints to
    this process's output. Raises JavaError if there is no usable Java, ConfigError if the settings can't work,
    SparkStartError if Spark does not start.
    """
    active = active_session()
    if active is not None:
        return active
    if "SPARK_REMOTE" in os.environ:
        return SparkSession.builder.appName(app_name).getOrCreate()
    if (java_problem := java.problem()) is not None:
        raise JavaError(java_problem)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit has set the master and the jars
    settings = read_conf(conf)
    if not submitted and settings.get("spark.master", "local").startswith("local"):
        settings = local_settings(settings, conf)
        # By default Spark starts workers with the first `python3` on the PATH.
        os.environ["PYSPARK_PYTHON"] = sys.executable
    # spark-submit sets the application's name too: its --name, or the file's name.
    builder = SparkSession.builder if submitted else SparkSession.builder.appName(app_name)
    delta = {} if submitted else delta_settings(settings)
    settings = {**_ALWAYS, **delta, **settings}
    for key, value in settings.items():
        builder = builder.config(key, value)
    if not {"spark.remote", "spark.api.mode"} & settings.keys():  # Spark Connect starts what it needs
        launch_java(settings, log)
    with starting_spark(log):
        spark = builder.getOrCreate()
    if submitted and str(spark.sparkContext.master).startswith("local"):
        submitted_conf = spark.sparkContext.getConf()
        for key, value in _LOCAL_SQL.items():
            if not submitted_conf.contains(key):
                spark.conf.set(key, value)
    return spark


def local_settings(settings: dict[str, str], conf: str | Path | None) -> dict[str, str]:
    """Return the defaults for one machine, overridden by `settings`, which were read from the file `conf`.

    Raises ConfigError if the settings request GPUs for tasks.
    """
    if _TASK_GPUS in settings and not settings.get("spark.master", "local").startswith("local-cluster"):
        raise ConfigError(
            f"{conf}: {_TASK_GPUS} is set, but Spark on one machine assigns no GPUs to tasks, and "
            "would wait for them forever; set spark.master to a cluster, or remove the setting"
        )
    return {**_LOCAL, **settings}


def java_encoding(spark: SparkSession) -> str:
    """Return the encoding in which the session's Java names files; UTF-8 with Spark Connect, which reports none."""
    jvm: Any = getattr(spark, "_jvm", None)
    return "utf-8" if jvm is None else str(jvm.System.getProperty("sun.jnu.encoding"))


def active_session() -> SparkSession | None:
    """Return the active session of this process, or None."""
    return SparkSession.getActiveSession()


@contextmanager
def temporary_settings(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """Set these settings of the session within the block, and restore them after it. Each must have a default."""
    before = {name: spark.conf.get(name) for name in settings}
    try:
        for name, value in settings.items():
            spark.conf.set(name, value)
        yield
    finally:
        for name, original in before.items():
            spark.conf.set(name, str(original))


def broadcast_text(spark: SparkSession, text: str) -> Callable[[], str]:
    """Return a function that gives `text` on the workers: from a broadcast, or with Spark Connect from its closure."""
    context = getattr(spark, "_sc", None)
    if context is None:
        return lambda: text
    broadcast = context.broadcast(text)
    return lambda: str(broadcast.value)


def task_slots(spark: SparkSession) -> int:
    """Return how many tasks the session runs at once; 1 with Spark Connect, which does not report it."""
    context = getattr(spark, "_sc", None)
    return int(context.defaultParallelism) if context is not None else 1


def threads_per_task(spark: SparkSession) -> int:
    """Return the number of CPU threads for each Python worker.

    On one machine the task slots share its processors; on a cluster each task has `spark.task.cpus`.
    """
    if str(spark.conf.get("spark.master", "")).startswith("local"):
        return max(1, len(os.sched_getaffinity(0)) // task_slots(spark))
    return int(spark.conf.get("spark.task.cpus", "1") or 1)
