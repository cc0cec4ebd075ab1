"""Options and the session of the commands that need Spark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gliclass_spark.cli.console import console

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PipelineFile = Annotated[Path, typer.Argument(help="A pipeline's YAML file.", metavar="PIPELINE.yaml")]
SparkConf = Annotated[
    Path | None, typer.Option("--conf", help="Spark's settings, a YAML file. Default: Spark on this machine.")
]


@contextmanager
def open_spark(conf: Path | None) -> Iterator[SparkSession]:
    """Yield a Spark session. Stops it after the block, unless it was active before."""
    from gliclass_spark.spark.session import active_session, spark_session

    was_active = active_session() is not None
    with console.status("starting Spark (the first start downloads Delta's jars: about half a minute)"):
        spark = spark_session(conf)
    with ExitStack() as stack:
        if not was_active:
            stack.callback(spark.stop)
        yield spark
