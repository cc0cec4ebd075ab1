"""What the workers did, counted on the driver while they do it."""

from __future__ import annotations

from pyspark import AccumulatorParam, SparkContext

from gliclass_spark.inference.results import Usage
from gliclass_spark.spark.worker.worker_settings import TaskReport

_NOTHING = TaskReport(Usage(), 0)


class _Sum(AccumulatorParam[TaskReport]):
    def zero(self, value: TaskReport) -> TaskReport:
        return _NOTHING

    def addInPlace(self, value1: TaskReport, value2: TaskReport) -> TaskReport:  # noqa: N802 - Spark's name
        return TaskReport(value1.usage + value2.usage, value1.loads + value2.loads)


class Meter:
    """Sums the reports of all tasks, as they end. A task that is run again is counted again: what
    stands in the tables is counted there, never here.
    """

    def __init__(self, context: SparkContext) -> None:
        self._total = context.accumulator(_NOTHING, _Sum())

    def add(self, report: TaskReport) -> None:
        """For the workers."""
        self._total.add(report)

    @property
    def total(self) -> TaskReport:
        """For the driver."""
        return self._total.value
