"""A pipeline run for a command: the options of runs, the Spark session, the progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gliclass_spark.cli.console import console
from gliclass_spark.cli.spark_options import open_spark
from gliclass_spark.config.pipeline import Pipeline, Retag, Step

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
Full = Annotated[bool, typer.Option("--full", help="Read every document, not only the changed ones.")]


def new_run_id() -> str:
    """Return a new run id: the time in UTC and four random hex digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:4]}"


@contextmanager
def open_run(
    pipeline: Path,
    run_id: str | None,
    conf: Path | None,
    retag: Retag = "changed",
    full: bool = False,
    until: datetime | None = None,
) -> Iterator[PipelineRun]:
    """Yield a run of the pipeline in a Spark session. Raises ConfigError for an invalid file, before Spark starts."""
    settings = Pipeline.from_yaml(pipeline)

    from gliclass_spark.spark.jobs import PipelineRun

    as_of = until.replace(tzinfo=UTC) if until is not None and until.tzinfo is None else until
    with open_spark(conf) as spark:
        yield PipelineRun(spark, settings, run_id or new_run_id(), retag=retag, full=full, until=as_of)


def run_step(run: PipelineRun, step: Step) -> Manifest:
    """Run one step under a progress bar and return its manifest."""
    from gliclass_spark.spark.jobs import STEPS

    columns = TextColumn("{task.description:<7}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(step, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return STEPS[step](replace(run, on_progress=update))


def run_steps(run: PipelineRun) -> list[Manifest]:
    """Run all steps of the pipeline, in order, and return their manifests."""
    return [run_step(run, step) for step in run.pipeline.steps]
