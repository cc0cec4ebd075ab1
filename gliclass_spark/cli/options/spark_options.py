"""Options and the session of the commands that need Spark."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gliclass_spark.cli.console import step
from gliclass_spark.errors import GliclassSparkError, JobError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PipelineFile = Annotated[Path, typer.Argument(help="A pipeline's YAML file.", metavar="PIPELINE.yaml")]
SparkConf = Annotated[
    Path | None, typer.Option("--conf", help="Spark's settings, a YAML file. Default: Spark on this machine.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print what Spark and Java print, instead of to a log file.")]


@contextmanager
def open_spark(
    conf: Path | None, verbose: bool = False, title: str = "the command", announce: bool = True
) -> Iterator[SparkSession]:
    """Yield a Spark session. Stops it after the block, unless it was active before.

    Errors of Spark in the block are raised as one line, under the title. What Spark's Java process prints goes to a
    log file, which is removed after a success, or with `verbose` to this process's output. announce: see `step`.
    """
    from gliclass_spark.spark.launch import silence_query_loggers
    from gliclass_spark.spark.session import active_session, spark_session
    from gliclass_spark.spark.spark_errors import reporting_spark_errors

    was_active = active_session() is not None
    is_started_here = not was_active and "PYSPARK_GATEWAY_PORT" not in os.environ
    with ExitStack() as stack:
        log = stack.enter_context(_log_file()) if is_started_here and not verbose else None
        stack.enter_context(reporting_spark_errors(title))
        starting = "starting Spark (the first start downloads Delta's jars: about half a minute)"
        with step(starting, announce) if is_started_here else nullcontext():
            spark = spark_session(conf, log=log)
        if log is not None:
            silence_query_loggers()
        if not was_active:
            stack.callback(spark.stop)
        yield spark


@contextmanager
def _log_file() -> Iterator[Path]:
    """Yield a file for Spark's log. It is kept, and named, only if the block fails in Spark."""
    handle, name = tempfile.mkstemp(prefix="gliclass-spark-", suffix=".log")
    os.close(handle)
    log, keep = Path(name), True
    try:
        yield log
        keep = False
    except JobError as error:
        if log.stat().st_size:
            raise JobError(f"{error} (Spark's log: {log})") from error
        raise
    except GliclassSparkError as error:
        keep = str(log) in str(error)
        raise
    finally:
        if not keep or not log.stat().st_size:
            log.unlink()
