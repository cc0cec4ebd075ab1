"""From a measured speed to a cluster: how many executors, for how long, at what price. Arithmetic, no Spark."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gliclass_spark.errors import ConfigError


@dataclass(frozen=True)
class Workload:
    """What is to be tagged, and how fast one task slot, a GPU or a processor's core, scores it.

    documents: their number. texts_per_s: of one task slot, scoring. spark_share: the part of that speed that is left
    from table to table, in (0, 1]. hours: the time that the run may take.
    """

    documents: int
    texts_per_s: float
    hours: float
    spark_share: float = 0.8

    def __post_init__(self) -> None:
        for name in ("documents", "texts_per_s", "hours"):
            if not getattr(self, name) > 0:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{name} must be more than 0, found {getattr(self, name)}; say it with {option}")
        if not 0 < self.spark_share <= 1:
            raise ConfigError(f"spark_share must be more than 0 and at most 1, found {self.spark_share}")


@dataclass(frozen=True)
class Executor:
    """One machine of the cluster: how many texts it scores at once, and what it costs an hour, in any currency."""

    slots: int = 1
    price_per_hour: float = 0.0

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ConfigError(f"an executor has at least 1 slot, found {self.slots}")
        if self.price_per_hour < 0:
            raise ConfigError(f"price_per_hour can't be less than 0, found {self.price_per_hour}")


@dataclass(frozen=True)
class Sizing:
    """slot_hours: what one slot alone would take. hours: what the executors take. cost: of all their hours."""

    slot_hours: float
    executors: int
    hours: float
    cost: float


def sizing(work: Workload, executor: Executor) -> Sizing:
    """As few executors as finish in time. Whole executors finish a little earlier than they must."""
    slot_hours = work.documents / (work.texts_per_s * work.spark_share) / 3600
    executors = math.ceil(slot_hours / work.hours / executor.slots)
    hours = slot_hours / (executors * executor.slots)
    return Sizing(slot_hours, executors, hours, executors * hours * executor.price_per_hour)
