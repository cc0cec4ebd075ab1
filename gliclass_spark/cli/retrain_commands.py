"""The command that retrains a pipeline's model on what came of its decisions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gliclass_spark.cli.console import console
from gliclass_spark.cli.spark_options import SparkConf, open_spark
from gliclass_spark.config.retraining import RETRAINING_STEPS, RetrainConfig, RetrainingStep
from gliclass_spark.errors import ConfigError

if TYPE_CHECKING:
    from gliclass_spark.retraining.steps import Retraining

app = typer.Typer()

_TOLD_STEPS = 10
# Those that share the work among the processes that torchrun starts.
_SHARED = ("supervised", "ppo")


@app.command()
def retrain(
    config: Annotated[Path, typer.Argument(help="A file of conf/retrain.", metavar="RETRAIN.yaml")],
    run_id: Annotated[
        str | None, typer.Option(help="The retraining's id. Give an earlier one to finish one that was stopped.")
    ] = None,
    step: Annotated[
        RetrainingStep | None,
        typer.Option(help="Do this one alone, as a scheduler does, one after the other. Default: all."),
    ] = None,
    conf: SparkConf = None,
) -> None:
    """Train a candidate on what came of a pipeline's decisions, and promote it if it passes the gate.

    snapshot (Spark) -> supervised -> ppo -> calibrate -> gate -> promote. "gliclass-spark rollback" takes a promotion
    back.
    """
    from gliclass_spark.retraining.promotion import ask_registry

    if step is not None and run_id is None:
        raise ConfigError(f"--step {step} is one of a retraining's steps: say with --run-id of which")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and step not in _SHARED:
        raise ConfigError(
            f"torchrun's processes share the steps {' and '.join(_SHARED)} alone, and each would do the others; give "
            "--run-id and --step to torchrun for these, and run the others without it"
        )
    read, run = RetrainConfig.from_yaml(config), run_id or f"retrain-{uuid4().hex[:8]}"
    ask_registry(read)
    console.print(f"retraining {run} of {read.model_name!r}", highlight=False)
    wanted = RETRAINING_STEPS if step is None else (step,)
    if "snapshot" in wanted:
        take_snapshot(read, run, conf)
    if wanted != ("snapshot",):
        train_and_judge(read, run, [each for each in wanted if each != "snapshot"])


def take_snapshot(config: RetrainConfig, run_id: str, conf: Path | None) -> None:
    """The step of a retraining that needs Spark."""
    from gliclass_spark.spark.jobs.snapshot import snapshot

    with open_spark(conf) as spark:
        folder = str(config.run_folder(run_id) / "snapshot")
        with console.status("taking the snapshot"):
            taken = snapshot(spark, config.pipeline, folder, config.holdout_share)
    counted = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in taken.counts.items())
    console.print(f"snapshot: {counted}", highlight=False)


def train_and_judge(config: RetrainConfig, run_id: str, steps: Sequence[RetrainingStep]) -> None:
    """The other steps, with their progress, and the verdict of the gate if it is one of them."""
    from gliclass_spark.cli.output.retraining_output import show_verdict
    from gliclass_spark.retraining.promotion import retraining as begun

    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("", total=None)

        def told(step: str, at: int, metrics: Mapping[str, float]) -> None:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in list(metrics.items())[:4])
            progress.update(task, description=f"{step} {at}: {shown}")
            if not console.is_terminal and at % _TOLD_STEPS == 0:  # a log has no line that changes
                console.print(f"{step} {at}: {shown}", highlight=False)

        work = begun(config, run_id, told)
        for note in work.material.notes:
            console.print(f"note: {note}", style="yellow", highlight=False, soft_wrap=True)
        for step in steps:
            progress.update(task, description=step)
            _done(config, run_id, work, step)
    if "gate" in steps:
        show_verdict(console, work.gate(), work.folder / "gate.html")


def _done(config: RetrainConfig, run_id: str, work: Retraining, step: RetrainingStep) -> None:
    if step == "promote":
        from gliclass_spark.retraining.promotion import publish

        version = publish(config, run_id, work)
        aliases = ", ".join(version.aliases) or "no alias"
        console.print(f"promote: {version.uri} is registered: {aliases}", highlight=False)
        return
    console.print(f"{step}: {_said(step, getattr(work, step)())}", highlight=False)


def _said(step: RetrainingStep, outcome: Mapping[str, Any]) -> str:
    match step:
        case "supervised":
            return f"loss {outcome['curve'][-1]['loss']:.4f}" if outcome["curve"] else "done"
        case "ppo":
            return "; ".join([f"the {outcome['candidate']} candidate goes on", *outcome["notes"]])
        case "calibrate":
            return f"calibration error {outcome['before']:.3f} -> {outcome['after']:.3f}"
        case _:
            return "the candidate passes" if outcome["promoted"] else "the candidate is refused"
