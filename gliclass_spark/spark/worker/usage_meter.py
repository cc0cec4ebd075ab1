"""Usage meter: the workers' reports, summed on the driver while a query runs."""

from __future__ import annotations

from pyspark import AccumulatorParam, SparkContext

from gliclass_spark.inference.results import Usage
from gliclass_spark.spark.worker.worker_settings import TaskReport

_ZERO = TaskReport(Usage(), 0)


class _Sum(AccumulatorParam[TaskReport]):
    def zero(self, value: TaskReport) -> TaskReport:
        return _ZERO

    def addInPlace(self, value1: TaskReport, value2: TaskReport) -> TaskReport:  # noqa: N802 - Spark's name
        return TaskReport(value1.usage + value2.usage, value1.loads + value2.loads)


class Meter:
    """Sum of the reports of all finished tasks.

    A retried task counts twice, so the counts of a table are read from the table and never from here.
    """

    def __init__(self, context: SparkContext) -> None:
        self._total = context.accumulator(_ZERO, _Sum())

    def add(self, report: TaskReport) -> None:
        """Add a report; called in the workers."""
        self._total.add(report)

    @property
    def total(self) -> TaskReport:
        """The sum so far; read on the driver."""
        return self._total.value
