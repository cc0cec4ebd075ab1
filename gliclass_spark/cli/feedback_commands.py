"""The command that ingests feedback about decisions."""

from __future__ import annotations

from typing import Annotated

import typer

from gliclass_spark.cli.console import console, step
from gliclass_spark.cli.options.spark_options import PipelineFile, SparkConf, Verbose, open_spark
from gliclass_spark.config.pipeline import Pipeline

app = typer.Typer()


@app.command()
def feedback(
    pipeline: PipelineFile,
    signals: Annotated[
        str,
        typer.Argument(
            help="A file or folder of signals: CSV, JSON lines, Parquet, or a Delta table.", metavar="SIGNALS"
        ),
    ],
    conf: SparkConf = None,
    max_error_ratio: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of signals that may be refused. Default: the pipeline's."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Ingest feedback about decisions: clicks, ratings, corrections. Each signal is stored with its decision.

    Columns: doc_id, verdict, source, observed_at; optional: label, reward, label_set_hash. Without a label, a signal is
    about all labels of the document together.
    Ingesting a file twice changes nothing: signals that are already stored are skipped.
    """
    settings = Pipeline.from_yaml(pipeline)  # before Spark starts: an invalid file fails at once

    from gliclass_spark.cli.output.feedback_output import show_feedback
    from gliclass_spark.spark.jobs.feedback.ingestion import ingest

    with open_spark(conf, verbose, f"feedback of pipeline {settings.name!r}") as spark:
        with step("ingesting feedback"):
            result = ingest(spark, settings, signals, max_error_ratio)
        show_feedback(console, settings.name, result)
