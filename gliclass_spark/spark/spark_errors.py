"""Errors of Spark, as errors that users can fix: what failed, its root cause, and the fix, on one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from gliclass_spark.errors import JobError

# Everything that a call of Spark raises: Spark's own errors, those of Java, and those of the connection to the JVM.
SPARK_ERRORS = (PySparkException, Py4JError)


@contextmanager
def reporting_spark_errors(title: str) -> Iterator[None]:
    """Raise Spark's errors of the block as JobError, with their root cause on one line."""
    try:
        yield
    except SPARK_ERRORS as error:
        raise JobError(
            f"{title} failed: {root_cause(error)}; no table is left half-written: fix the cause, and run again"
        ) from error


def root_cause(error: BaseException) -> str:
    """Return the innermost cause that Spark's message names, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return causes[-1] if causes else lines[0]
