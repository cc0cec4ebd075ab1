"""A pipeline run for a command: the options of runs, the Spark session, the progress bar."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn

from gliclass_spark.cli.console import messages, progress, step
from gliclass_spark.cli.options.spark_options import open_spark
from gliclass_spark.config.catalog import folder_of
from gliclass_spark.config.pipeline import Pipeline, Retag, Step
from gliclass_spark.runs.manifest import new_run_id

if TYPE_CHECKING:
    from gliclass_spark.runs.manifest import Manifest
    from gliclass_spark.spark.jobs import PipelineRun

RunId = Annotated[
    str | None, typer.Option(help="The run's id. Give an earlier id to finish that run. Default: a new one.")
]
RetagChoice = Annotated[
    Retag,
    typer.Option(
        help='Documents to score: those whose text, labels or model "changed", "all", or "none" that have scores.'
    ),
]
Until = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"],
        help="Read the source as of this time (UTC unless it names an offset), for a late run or a backfill.",
    ),
]
RunDate = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d"],
        help="The date for rules that use run_date. Default: that of --until, else the day on which the run began.",
    ),
]
Full = Annotated[bool, typer.Option("--full", help="Read every document, not only the changed ones.")]

_DESCRIPTIONS: dict[Step, str] = {
    "tag": "tag: loading the model and scoring new and changed documents",
    "filter": "filter: applying the reject rules",
    "route": "route: writing the routes' tables",
}


def finish_empty(pipeline: Pipeline, steps: Sequence[Step], run_id: str | None, retag: Retag) -> list[Manifest] | None:
    """Record the steps as done if they would change nothing, and return their manifests; else None.

    Starts neither Spark nor Java. A submitted application is left to Spark: one without a SparkContext fails on YARN.
    """
    if retag == "all" or "PYSPARK_GATEWAY_PORT" in os.environ or "SPARK_REMOTE" in os.environ:
        return None
    from gliclass_spark.checkpoints.uri import resolve_model
    from gliclass_spark.runs.empty_run import finish_empty_run

    digest = resolve_model(pipeline.model).digest
    return finish_empty_run(pipeline, steps, run_id or new_run_id(), digest, retag)


@contextmanager
def open_run(
    pipeline: Path,
    run_id: str | None,
    conf: Path | None,
    retag: Retag = "changed",
    full: bool = False,
    until: datetime | None = None,
    verbose: bool = False,
    run_date: datetime | None = None,
    announce: bool = True,
) -> Iterator[PipelineRun]:
    """Yield a run of the pipeline in a Spark session. Raises ConfigError for an invalid file, before Spark starts."""
    settings = Pipeline.from_yaml(pipeline)

    from gliclass_spark.spark.jobs import PipelineRun
    from gliclass_spark.spark.launch import check_paths
    from gliclass_spark.spark.session import java_encoding

    day = run_date.date() if run_date is not None else None
    as_of = until.replace(tzinfo=UTC) if until is not None and until.tzinfo is None else until
    with open_spark(conf, verbose, f"pipeline {settings.name!r}", announce) as spark:
        check_paths(java_encoding(spark), {"source.path": settings.source.path, "tables": folder_of(settings.tables)})
        yield PipelineRun(spark, settings, run_id or new_run_id(), retag=retag, full=full, until=as_of, run_date=day)


def run_step(run: PipelineRun, name: Step) -> Manifest:
    """Run one step under a progress bar and return its manifest."""
    from gliclass_spark.spark.jobs import STEPS

    description = TextColumn("{task.description}")
    columns = SpinnerColumn(), description, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with progress(*columns) as bar:
        task = bar.add_task(name, total=None)

        def update(done: int, total: int) -> None:
            loading = total and not done
            bar.update(task, completed=done, total=total, description=f"{name}: loading the model" if loading else name)

        return STEPS[name](replace(run, on_progress=update))


def run_steps(run: PipelineRun, announce: bool = False) -> list[Manifest]:
    """Run all steps of the pipeline, in order, and return their manifests.

    announce: print a line for each step where standard error is no terminal for a progress bar.
    """
    manifests = []
    for name in run.pipeline.steps:
        with step(_DESCRIPTIONS[name]) if announce and not messages.is_terminal else nullcontext():
            manifests.append(run_step(run, name))
    return manifests
