"""Cluster sizing: executors, hours and cost from a measured speed. Arithmetic, without Spark."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gliclass_spark.errors import ConfigError


@dataclass(frozen=True)
class Workload:
    """The documents to tag and the speed of one task slot (a GPU, or a CPU core).

    documents: their number. texts_per_s: of one task slot, scoring only. hours: the time limit of the run.
    spark_share: share of texts_per_s that a job reaches from table to table, in (0, 1].
    """

    documents: int
    texts_per_s: float
    hours: float
    spark_share: float = 0.8

    def __post_init__(self) -> None:
        for name in ("documents", "texts_per_s", "hours"):
            if not getattr(self, name) > 0:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{name} must be more than 0, got {getattr(self, name)}; set it with {option}")
        if not 0 < self.spark_share <= 1:
            raise ConfigError(f"spark_share must be more than 0 and at most 1, got {self.spark_share}")


@dataclass(frozen=True)
class Executor:
    """One machine of the cluster: its task slots, and its price per hour in any currency."""

    slots: int = 1
    price_per_hour: float = 0.0

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ConfigError(f"an executor has at least 1 slot, got {self.slots}")
        if self.price_per_hour < 0:
            raise ConfigError(f"price_per_hour can't be less than 0, got {self.price_per_hour}")


@dataclass(frozen=True)
class Sizing:
    """slot_hours: hours that one slot alone would take. hours: of the run. cost: of all executors for these hours."""

    slot_hours: float
    executors: int
    hours: float
    cost: float


def sizing(workload: Workload, executor: Executor) -> Sizing:
    """Return the smallest cluster that finishes in time. It may finish early: the number of executors is rounded up."""
    slot_hours = workload.documents / (workload.texts_per_s * workload.spark_share) / 3600
    executors = math.ceil(slot_hours / workload.hours / executor.slots)
    hours = slot_hours / (executors * executor.slots)
    return Sizing(slot_hours, executors, hours, executors * hours * executor.price_per_hour)
