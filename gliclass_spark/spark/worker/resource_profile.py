"""GPU resources of the tagging stage, from Spark's settings."""

from __future__ import annotations

from typing import cast, get_args

from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

from gliclass_spark.errors import ConfigError
from gliclass_spark.spark.worker.gpu import GpuSharing

_SHARING = "spark.gliclass.gpuSharing"
_EXECUTOR_GPUS = "spark.executor.resource.gpu.amount"
_TASK_GPUS = "spark.task.resource.gpu.amount"
# Masters with stage-level scheduling. In local mode Spark assigns no GPUs to tasks.
_STAGE_LEVEL_SCHEDULING = ("spark://", "local-cluster", "yarn", "k8s://")


def gpu_sharing(spark: SparkSession) -> GpuSharing:
    """Return `spark.gliclass.gpuSharing`: "refuse", "warn" or "allow". Raises ConfigError for any other value.

    The default is "warn": Spark may run a task in another idle worker of the executor than the one that holds the
    model, and a scheduled run should not fail while the GPU has memory for both.
    """
    value = spark.conf.get(_SHARING, "warn")
    if value not in get_args(GpuSharing):
        raise ConfigError(f"{_SHARING} is {value!r}; set it to one of {', '.join(get_args(GpuSharing))}")
    return cast(GpuSharing, value)


def tagging_profile(spark: SparkSession) -> ResourceProfile | None:
    """Return a profile with one GPU per task, or None if the stage should use the session's settings.

    The profile is for executors that have GPUs which tasks don't request by default: the tagging stage then runs one
    task per GPU, and all other stages one per processor. It requests nothing for executors, so it needs no dynamic
    allocation.
    """
    master = spark.conf.get("spark.master", "") or ""
    executors_have_gpus = float(spark.conf.get(_EXECUTOR_GPUS, "0") or 0) > 0
    tasks_request_gpus = spark.conf.get(_TASK_GPUS, None) is not None
    if not executors_have_gpus or tasks_request_gpus or not master.startswith(_STAGE_LEVEL_SCHEDULING):
        return None
    return ResourceProfileBuilder().require(TaskResourceRequests().resource("gpu", 1)).build
