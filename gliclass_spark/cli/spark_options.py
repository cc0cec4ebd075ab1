"""What the commands share that need Spark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PipelineFile = Annotated[Path, typer.Argument(help="A file of conf/pipelines.", metavar="PIPELINE.yaml")]
SparkConf = Annotated[Path | None, typer.Option("--conf", help="A file of conf/spark. Default: this machine.")]


@contextmanager
def started_spark(console: Console, conf: Path | None) -> Iterator[SparkSession]:
    """A Spark session for the block. One that was there before is used, and left running."""
    from gliclass_spark.spark.session import active_session, spark_session

    borrowed = active_session() is not None
    with console.status("starting Spark (the first time it fetches Delta's jars: about half a minute)"):
        spark = spark_session(conf)
    with ExitStack() as stack:
        if not borrowed:
            stack.callback(spark.stop)
        yield spark
