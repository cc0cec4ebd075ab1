"""Messages between the driver and its workers. Imports no torch, which a driver does not need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.inference.results import Usage
from gliclass_spark.spark.worker.gpu import GpuSharing

if TYPE_CHECKING:
    from gliclass_spark.inference.device import Precision


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker loads its engine.

    device: None means the GPU that Spark assigned to the task; without one, any visible GPU, else "cpu".
    threads: CPU threads of one worker.
    gpu_sharing: what to do if another process has a model on the GPU.
    """

    model: ModelRef
    device: str | None
    precision: Precision
    threads: int
    gpu_sharing: GpuSharing = "warn"


@dataclass(frozen=True)
class TaskReport:
    """What a worker did for a batch: the engine's usage, and the number of models loaded."""

    usage: Usage
    loads: int
