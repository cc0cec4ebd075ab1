"""The command that takes in what came of decisions."""

from __future__ import annotations

from typing import Annotated

import typer

from gliclass_spark.cli.console import console
from gliclass_spark.cli.spark_options import PipelineFile, SparkConf, started_spark
from gliclass_spark.config.pipeline import Pipeline

collecting = typer.Typer()


@collecting.command()
def feedback(
    pipeline: PipelineFile,
    signals: Annotated[
        str,
        typer.Argument(help="Signals: CSV, JSON lines, Parquet, a folder of one of them, or Delta.", metavar="SIGNALS"),
    ],
    conf: SparkConf = None,
    max_error_ratio: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The share of signals that may be refused. Default: the pipeline's own."),
    ] = None,
) -> None:
    """Take in signals about decisions: clicks, ratings, corrections. They go into `feedback`, beside what was decided.

    Columns: doc_id, label, verdict, source, observed_at; and, where they are known, reward and label_set_hash.
    The same file can be taken in twice: a signal that is known is left alone.
    """
    settings = Pipeline.from_yaml(pipeline)  # before Spark: a wrong file is told at once

    from gliclass_spark.cli.output.run_output import show_feedback
    from gliclass_spark.spark.jobs.ingest_feedback import ingest

    with started_spark(console, conf) as spark:
        with console.status("taking in signals"):
            found = ingest(spark, settings, signals, max_error_ratio)
        show_feedback(console, settings.name, found)
