"""The command line: gliclass-spark."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import uuid4

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gliclass_spark.cli.console import console
from gliclass_spark.cli.feedback_commands import collecting
from gliclass_spark.cli.model_commands import models
from gliclass_spark.cli.retrain_commands import retraining
from gliclass_spark.cli.retrain_demo import circle
from gliclass_spark.cli.spark_options import PipelineFile, SparkConf, started_spark
from gliclass_spark.cli.training_commands import learning
from gliclass_spark.config.model_uri import MODEL_ADDRESSES
from gliclass_spark.config.pipeline import Pipeline, Step
from gliclass_spark.errors import ConfigError, GliclassSparkError

# Torch and Spark take seconds to import: each command imports what it needs, so that --help is quick.
if TYPE_CHECKING:
    from gliclass_spark.runs.manifest import Manifest
    from gliclass_spark.spark.jobs import PipelineRun

Retag = Literal["changed", "all", "none"]

app = typer.Typer(
    help="Tag, filter and route the text of a data lake with GLiClass, a zero-shot classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(collecting)
app.add_typer(learning)
app.add_typer(models)
app.add_typer(retraining)
app.add_typer(circle)

RunId = Annotated[
    str | None, typer.Option(help="The run's id. Give an earlier one to finish a run that was stopped. Default: new.")
]
RetagChoice = Annotated[
    Retag,
    typer.Option(help='What to ask the model again: what "changed" (texts, labels, model), "all", or "none".'),
]
Until = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"],
        help="Take the source as it was at this time (UTC unless it says otherwise): for a night that is made up for.",
    ),
]
Full = Annotated[bool, typer.Option("--full", help="Look at every document, not only at what changed.")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Gives the exit code: 0, or 1 for a run that was stopped, 2 for input to be mended."""
    try:
        app(args=None if argv is None else list(argv))
    except GliclassSparkError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as exit_:  # how typer ends, after --help or a wrong argument as after success
        return exit_.code if isinstance(exit_.code, int) else 0
    return 0


@app.command()
def run(
    pipeline: PipelineFile,
    run_id: RunId = None,
    conf: SparkConf = None,
    retag: RetagChoice = "changed",
    full: Full = False,
    until: Until = None,
    every: Annotated[
        str | None, typer.Option(help="Go on, and run again after this time if there is something new: 30s, 5m, 2h.")
    ] = None,
) -> None:
    """Tag, filter and route in one go, then show what became of the documents.

    Only what is new or changed is looked at. A run that was stopped is finished by running again.
    """
    from gliclass_spark.cli.output.run_output import show_run

    pause = _seconds(every) if every is not None else None
    if pause is not None and until is not None:
        raise ConfigError("--every goes on with what comes, --until ends at a time; give one of them")
    with _started(pipeline, run_id, conf, retag, full, until) as started:
        if pause is None:
            show_run(console, started, [_step(started, name) for name in started.pipeline.steps])
        else:
            _run_on(started, pause)


@app.command()
def tag(
    pipeline: PipelineFile,
    run_id: RunId = None,
    conf: SparkConf = None,
    retag: RetagChoice = "changed",
    full: Full = False,
    until: Until = None,
) -> None:
    """Classify new and changed documents: every score of every label goes into `tags`. Loads the model."""
    _one_step("tag", pipeline, run_id, conf, retag, full, until)


@app.command(name="filter")
def filter_(pipeline: PipelineFile, run_id: RunId = None, conf: SparkConf = None, full: Full = False) -> None:
    """Apply the reject rules to the tags: `kept`, `rejected` with a reason, `quarantined`. Loads no model."""
    _one_step("filter", pipeline, run_id, conf, full=full)


@app.command()
def route(pipeline: PipelineFile, run_id: RunId = None, conf: SparkConf = None, full: Full = False) -> None:
    """Send the kept documents to the tables of their routes. Loads no model."""
    _one_step("route", pipeline, run_id, conf, full=full)


@app.command()
def plan(
    pipeline: PipelineFile,
    conf: SparkConf = None,
    retag: RetagChoice = "changed",
    full: Full = False,
    sample: Annotated[int, typer.Option(min=1, help="How many of the texts to score for the estimates.")] = 200,
    cluster: Annotated[bool, typer.Option("--cluster", help="Also size a cluster: executors, hours, cost.")] = False,
    documents: Annotated[int | None, typer.Option(help="For --cluster: documents. Default: those to tag.")] = None,
    hours: Annotated[float, typer.Option(help="For --cluster: the time that the run may take.")] = 8.0,
    texts_per_s: Annotated[
        float | None, typer.Option(help="For --cluster: of one task slot. Default: this machine's, from the sample.")
    ] = None,
    slots: Annotated[int, typer.Option(help="For --cluster: an executor's task slots (its GPUs).")] = 1,
    price: Annotated[float, typer.Option(help="For --cluster: an executor's price an hour.")] = 0.0,
    spark_share: Annotated[float, typer.Option(help="For --cluster: what Spark leaves of the engine's speed.")] = 0.8,
) -> None:
    """Show what a run would do, before it does it: what it would tag, keep, reject and route. Writes nothing.

    With --cluster also the cluster for it, or for as many such documents as you say, on paper:
    plan corpus.yaml --cluster --documents 1000000000 --texts-per-s 2000 --slots 4 --price 12
    """
    from gliclass_spark.cli.cluster_size import Executor, Workload
    from gliclass_spark.cli.output.run_output import show_plan, show_sizing
    from gliclass_spark.spark.jobs.plan import plan as planned

    executor = Executor(slots, price)
    with _started(pipeline, None, conf, retag, full) as started:
        with console.status("scoring a sample"):
            found = planned(started, sample)
        show_plan(console, started.pipeline.name, found)
    if cluster:
        work = Workload(documents or found.to_tag, texts_per_s or found.texts_per_s or 0.0, hours, spark_share)
        show_sizing(console, work, executor)


@app.command()
def report(
    pipeline: PipelineFile,
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="The run's id. Default: the latest.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page to write. Default: RUN.html, here.")] = None,
) -> None:
    """Write a run's report, one HTML page: flow of rows, scores of each label, drift, throughput, samples."""
    from gliclass_spark.report.run_report import page

    found = page(Pipeline.from_yaml(pipeline), run_id)
    run = found.manifests[0].run_id
    target = out or Path(f"{run}.html")
    target.write_text(found.html, encoding="utf-8")
    console.print(f"Report of run {run}: {target}", soft_wrap=True, highlight=False)


@app.command()
def maintain(pipeline: PipelineFile, conf: SparkConf = None) -> None:
    """Compact the pipeline's tables, and remove files that no version within the retention needs.

    The retention is a table's property delta.deletedFileRetentionDuration: 7 days unless you set it.
    """
    from gliclass_spark.cli.output.run_output import show_care
    from gliclass_spark.spark.jobs.maintain import maintain as maintained

    with _started(pipeline, None, conf) as started:
        with console.status("compacting and vacuuming"):
            done = list(maintained(started.spark, started.pipeline))
        show_care(console, done)


@app.command()
def demo(pipeline: PipelineFile = Path("conf/pipelines/corpus.yaml"), conf: SparkConf = None) -> None:
    """Run the demo pipeline on real documents: the descriptions of the Python packages installed here."""
    from gliclass_spark.cli.output.run_output import show_run
    from gliclass_spark.demo.package_documents import write_documents

    with _started(pipeline, None, conf) as started:
        write_documents(str(started.pipeline.source.path))
        show_run(console, started, [_step(started, name) for name in started.pipeline.steps])


@app.command()
def classify(
    labels: Annotated[str, typer.Option(help="Label names, separated by commas, or a file of conf/labels.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; without any, the lines of standard input.")] = None,
    model: Annotated[str, typer.Option(help=f"{MODEL_ADDRESSES}.")] = "embedded",
) -> None:
    """Classify texts here and now, without Spark: to try labels and their wording.

    gliclass-spark classify --labels "spam,invoice,complaint" "Your parcel never arrived!"
    """
    from gliclass_spark.cli.output.run_output import show_scored
    from gliclass_spark.inference.engine import Engine
    from gliclass_spark.labels import LabelSet

    is_file = labels.endswith((".yaml", ".yml"))
    label_set = LabelSet.from_yaml(labels) if is_file else LabelSet.of(*labels.split(","))
    engine = Engine.from_pretrained(model)
    console.print(f"{engine}", style="dim", highlight=False, markup=False)
    asked = texts or [line.rstrip("\n") for line in sys.stdin]
    for text, found in zip(asked, engine.classify(asked, label_set), strict=True):
        show_scored(console, text, found, label_set)


def _one_step(
    name: Step,
    pipeline: Path,
    run_id: str | None,
    conf: Path | None,
    retag: Retag = "changed",
    full: bool = False,
    until: datetime | None = None,
) -> None:
    with _started(pipeline, run_id, conf, retag, full, until) as started:
        if name not in started.pipeline.steps:
            has = ", ".join(started.pipeline.steps)
            raise ConfigError(f"{pipeline}: this pipeline has no step {name!r} (steps: [{has}]); add it to 'steps'")
        manifest = _step(started, name)
    # In a log, a line for each number of a histogram would bury what else the job says.
    console.print_json(data=asdict(manifest), default=str, indent=2 if console.is_terminal else None)


def _run_on(run: PipelineRun, pause_s: float) -> None:
    """Run whenever there is something new, until interrupted. A run that is interrupted is finished by the next."""
    from gliclass_spark.cli.output.run_output import show_line
    from gliclass_spark.spark.jobs import up_to_date

    console.print(f"Looking for new documents every {pause_s:g} s; Ctrl-C ends it.", highlight=False)
    try:
        while True:
            if not up_to_date(run):
                show_line(console, [_step(replace(run, run_id=_new_id()), name) for name in run.pipeline.steps])
            time.sleep(pause_s)
    except KeyboardInterrupt:
        console.print("stopped")


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if found is None or float(found[1]) == 0:
        raise ConfigError(f"--every {text!r} is no time; write a number and s, m or h, as in 30s, 5m or 2h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _new_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:4]}"


@contextmanager
def _started(
    pipeline: Path,
    run_id: str | None,
    conf: Path | None,
    retag: Retag = "changed",
    full: bool = False,
    until: datetime | None = None,
) -> Iterator[PipelineRun]:
    """A run of the pipeline, with `started_spark`."""
    settings = Pipeline.from_yaml(pipeline)  # before Spark: a wrong file is told at once

    from gliclass_spark.spark.jobs import PipelineRun

    moment = until.replace(tzinfo=UTC) if until is not None and until.tzinfo is None else until
    with started_spark(console, conf) as spark:
        yield PipelineRun(spark, settings, run_id or _new_id(), retag=retag, full=full, until=moment)


def _step(run: PipelineRun, name: str) -> Manifest:
    from gliclass_spark.spark.jobs import STEPS

    with _progress(name) as on_progress:
        return STEPS[name](replace(run, on_progress=on_progress))


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None]]:
    columns = TextColumn("{task.description:<7}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
