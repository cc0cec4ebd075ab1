"""What a driver and its workers tell each other. Loads no torch: a driver has no use for it."""

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

    device: None takes the GPU that Spark gave to the task; where it gave none, one that is there, else "cpu".
    threads: the worker's share of the machine's processors.
    gpu_sharing: what to do about a GPU that holds another process's model.
    """

    model: ModelRef
    device: str | None
    precision: Precision
    threads: int
    gpu_sharing: GpuSharing = "warn"


@dataclass(frozen=True)
class TaskReport:
    """What a call in a worker cost: the engine's usage, and how many models it had to load for it."""

    usage: Usage
    loads: int
