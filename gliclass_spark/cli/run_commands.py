"""The commands that run a pipeline: run, tag, filter, route, and the demo."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gliclass_spark.cli.console import console, messages
from gliclass_spark.cli.options.run_session import (
    Full,
    RetagChoice,
    RunDate,
    RunId,
    Until,
    finish_empty,
    open_run,
    run_step,
    run_steps,
)
from gliclass_spark.cli.options.spark_options import PipelineFile, SparkConf, Verbose
from gliclass_spark.cli.output.json_output import print_json
from gliclass_spark.cli.output.run_metrics import MetricsFile, write_metrics
from gliclass_spark.config.pipeline import Pipeline, Retag, Step
from gliclass_spark.errors import ConfigError
from gliclass_spark.runs.manifest import new_run_id

# Torch and Spark take seconds to import: commands import them inside their functions, to keep --help fast.
if TYPE_CHECKING:
    from gliclass_spark.runs.manifest import Manifest
    from gliclass_spark.spark.jobs import PipelineRun

app = typer.Typer()


@app.command()
def demo(
    pipeline: PipelineFile = Path("conf/pipelines/corpus.yaml"), conf: SparkConf = None, verbose: Verbose = False
) -> None:
    """Run the demo pipeline on real documents: the descriptions of the Python packages installed here."""
    from gliclass_spark.cli.output.run_output import show_run
    from gliclass_spark.demo.package_documents import write_documents

    with open_run(pipeline, None, conf, verbose=verbose) as run:
        write_documents(str(run.pipeline.source.path))
        show_run(console, run, run_steps(run, announce=True))


@app.command(name="run")
def run_all(
    pipeline: PipelineFile,
    run_id: RunId = None,
    conf: SparkConf = None,
    retag: RetagChoice = "changed",
    full: Full = False,
    until: Until = None,
    every: Annotated[
        str | None,
        typer.Option(help="Keep running: look for new documents at this interval, such as 30s, 5m or 2h."),
    ] = None,
    metrics: MetricsFile = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print the steps' manifests as one JSON object on standard output, and nothing else there, with "
            "`retraining`: whether one is due. "
            "With --every, one for each run.",
        ),
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Tag, filter and route new and changed documents, then print the counts and some samples.

    To finish a run that was stopped, run the command again.

    gliclass-spark run mail.yaml --json | jq ".steps[].status"
    """
    from gliclass_spark.cli.output.run_output import run_document, show_empty_run, show_line, show_run

    interval_s = _seconds(every) if every is not None else None
    if interval_s is not None and until is not None:
        raise ConfigError("--every runs on with new documents, --until ends at a time; give one of them")
    settings = Pipeline.from_yaml(pipeline)
    empty = None if full or interval_s is not None else finish_empty(settings, settings.steps, run_id, retag)

    def report(manifests: Sequence[Manifest], show: Callable[[], None]) -> None:
        if metrics is not None:
            write_metrics(metrics, manifests)
        if as_json:
            from gliclass_spark.runs.due.retraining_due import retraining_due

            print_json(run_document(manifests, retraining_due(settings)))
        else:
            show()

    if empty is not None:
        report(empty, lambda: show_empty_run(console, empty))
        return
    with open_run(pipeline, run_id, conf, retag, full, until, verbose) as run:
        if interval_s is None:
            manifests = run_steps(run, announce=True)
            report(manifests, lambda: show_run(console, run, manifests))
        else:
            _run_repeatedly(run, interval_s, lambda manifests: report(manifests, lambda: show_line(console, manifests)))


@app.command()
def tag(
    pipeline: PipelineFile,
    run_id: RunId = None,
    conf: SparkConf = None,
    retag: RetagChoice = "changed",
    full: Full = False,
    until: Until = None,
    verbose: Verbose = False,
) -> None:
    """Score new and changed documents: every label's score goes to `tags`. The only step that loads the model."""
    _run_one_step("tag", pipeline, run_id, conf, retag, full, until, verbose)


@app.command(name="filter")
def filter_(
    pipeline: PipelineFile,
    run_id: RunId = None,
    conf: SparkConf = None,
    full: Full = False,
    run_date: RunDate = None,
    verbose: Verbose = False,
) -> None:
    """Apply the reject rules to the scores: `kept`, `rejected` with a reason, `quarantined` with an error."""
    _run_one_step("filter", pipeline, run_id, conf, full=full, verbose=verbose, run_date=run_date)


@app.command()
def route(
    pipeline: PipelineFile,
    run_id: RunId = None,
    conf: SparkConf = None,
    full: Full = False,
    run_date: RunDate = None,
    verbose: Verbose = False,
) -> None:
    """Write the kept documents to the tables of their routes."""
    _run_one_step("route", pipeline, run_id, conf, full=full, verbose=verbose, run_date=run_date)


def _run_one_step(
    step: Step,
    pipeline: Path,
    run_id: str | None,
    conf: Path | None,
    retag: Retag = "changed",
    full: bool = False,
    until: datetime | None = None,
    verbose: bool = False,
    run_date: datetime | None = None,
) -> None:
    """Run one step and print its manifest as JSON, on one line in a log."""
    settings = Pipeline.from_yaml(pipeline)
    if step not in settings.steps:
        steps = ", ".join(settings.steps)
        raise ConfigError(f"{pipeline}: this pipeline has no step {step!r} (steps: [{steps}]); add it to 'steps'")
    empty = None if full else finish_empty(settings, [step], run_id, retag)
    if empty is not None:
        [manifest] = empty
    else:
        # The manifest is all that is printed where a scheduler reads it.
        with open_run(pipeline, run_id, conf, retag, full, until, verbose, run_date, announce=False) as run:
            manifest = run_step(run, step)
    console.print_json(data=asdict(manifest), default=str, indent=2 if console.is_terminal else None)


def _run_repeatedly(run: PipelineRun, interval_s: float, report: Callable[[list[Manifest]], None]) -> None:
    """Run and report whenever the source has changed, until interrupted. The next run finishes an interrupted one."""
    from gliclass_spark.spark.jobs import is_up_to_date

    messages.print(f"Looking for new documents every {interval_s:g} s; Ctrl-C ends it.", highlight=False)
    try:
        while True:
            if not is_up_to_date(run):
                report(run_steps(replace(run, run_id=new_run_id())))
            time.sleep(interval_s)
    except KeyboardInterrupt:
        messages.print("stopped")


def _seconds(interval: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", interval)
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"--every {interval!r} is not a time; write a number and s, m or h, as in 30s, 5m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
