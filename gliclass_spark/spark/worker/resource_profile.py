"""What tagging asks of a cluster's GPUs, by Spark's settings."""

from __future__ import annotations

from typing import cast, get_args

from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

from gliclass_spark.errors import ConfigError
from gliclass_spark.spark.worker.gpu import GpuSharing

_SHARING = "spark.gliclass.gpuSharing"
_EXECUTOR_GPUS = "spark.executor.resource.gpu.amount"
_TASK_GPUS = "spark.task.resource.gpu.amount"
# The masters that let a stage ask for what others do not. One machine alone gives tasks no GPUs at all.
_SCHEDULE_STAGES = ("spark://", "local-cluster", "yarn", "k8s://")


def gpu_sharing(spark: SparkSession) -> GpuSharing:
    """`spark.gliclass.gpuSharing`: "refuse", "warn" or "allow". Raises ConfigError.

    The default only warns: Spark may hand a task to another of an executor's idle workers than the one
    that holds the model, and a night's run should not fail for memory that is there.
    """
    asked = spark.conf.get(_SHARING, "warn")
    if asked not in get_args(GpuSharing):
        raise ConfigError(f"{_SHARING} is {asked!r}; set it to one of {', '.join(get_args(GpuSharing))}")
    return cast(GpuSharing, asked)


def tagging_profile(spark: SparkSession) -> ResourceProfile | None:
    """A whole GPU for each task of the stage that it is given to; None leaves the stage to the session's settings.

    It is for executors with GPUs that tasks do not ask for by default: the tagging stage then runs one
    task for each GPU, all others one for each processor. As it asks for nothing on the executors' side,
    it needs no dynamic allocation.
    """
    master = spark.conf.get("spark.master", "") or ""
    executors_have = float(spark.conf.get(_EXECUTOR_GPUS, "0") or 0) > 0
    tasks_ask = spark.conf.get(_TASK_GPUS, None) is not None
    if not executors_have or tasks_ask or not master.startswith(_SCHEDULE_STAGES):
        return None
    return ResourceProfileBuilder().require(TaskResourceRequests().resource("gpu", 1)).build
