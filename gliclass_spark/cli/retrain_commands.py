"""The command that retrains a pipeline's model on feedback."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gliclass_spark.cli.console import console, step
from gliclass_spark.cli.spark_options import SparkConf, Verbose, open_spark
from gliclass_spark.config.retraining import RETRAINING_STEPS, RetrainConfig, RetrainingStep
from gliclass_spark.errors import ConfigError

if TYPE_CHECKING:
    from gliclass_spark.retraining.steps import Retraining

app = typer.Typer()

_LOG_EVERY = 10
# The steps that the processes of torchrun share.
_DISTRIBUTED_STEPS = ("supervised", "ppo")


@app.command()
def retrain(
    config: Annotated[Path, typer.Argument(help="A file of conf/retrain.", metavar="RETRAIN.yaml")],
    run_id: Annotated[
        str | None, typer.Option(help="The retraining's id. Give an earlier one to finish one that was stopped.")
    ] = None,
    step: Annotated[
        RetrainingStep | None, typer.Option(help="Run this step alone, as a scheduler does. Default: all steps.")
    ] = None,
    conf: SparkConf = None,
    verbose: Verbose = False,
) -> None:
    """Train a candidate on the feedback to a pipeline's decisions, and promote it if it passes the gate.

    snapshot (Spark) -> supervised -> ppo -> calibrate -> gate -> promote. "gliclass-spark rollback" undoes a promotion.
    """
    if step is not None and run_id is None:
        raise ConfigError(f"--step {step} needs --run-id: the id of the retraining that it is a step of")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and step not in _DISTRIBUTED_STEPS:
        raise ConfigError(
            f"torchrun's processes share only the steps {' and '.join(_DISTRIBUTED_STEPS)}, and each would repeat the "
            "others; give --run-id and --step to torchrun for these, and run the others without it"
        )
    settings, run_id = RetrainConfig.from_yaml(config), run_id or f"retrain-{uuid4().hex[:8]}"
    console.print(f"retraining {run_id} of {settings.model_name!r}", highlight=False)
    steps = RETRAINING_STEPS if step is None else (step,)
    if "snapshot" in steps:
        take_snapshot(settings, run_id, conf, verbose)
    if steps != ("snapshot",):
        run_steps(settings, run_id, [name for name in steps if name != "snapshot"])


def take_snapshot(config: RetrainConfig, run_id: str, conf: Path | None, verbose: bool = False) -> None:
    """Run the step "snapshot", the one that needs Spark."""
    from gliclass_spark.spark.jobs.snapshot import snapshot

    with open_spark(conf, verbose, f"the retraining of {config.model_name!r}") as spark:
        folder = str(config.run_folder(run_id) / "snapshot")
        with step("taking the snapshot"):
            taken = snapshot(
                spark, config.pipeline, folder, config.holdout_share, max_source_share=config.max_source_share
            )
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in taken.counts.items())
    console.print(f"snapshot: {counts}", highlight=False)


def run_steps(config: RetrainConfig, run_id: str, steps: Sequence[RetrainingStep]) -> None:
    """Run steps after the snapshot, print their progress, and the verdict if the gate is one of them."""
    from gliclass_spark.cli.output.retraining_output import show_verdict
    from gliclass_spark.retraining.promotion import open_retraining

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=None)

        def show_metrics(step: str, updates: int, metrics: Mapping[str, float]) -> None:
            line = "  ".join(f"{name} {value:.4g}" for name, value in list(metrics.items())[:4])
            progress.update(task, description=f"{step} {updates}: {line}")
            if not console.is_terminal and updates % _LOG_EVERY == 0:  # a log can't update a line
                console.print(f"{step} {updates}: {line}", highlight=False)

        retraining = open_retraining(config, run_id, show_metrics)
        for note in retraining.data.notes:
            console.print(f"note: {note}", style="yellow", highlight=False, soft_wrap=True)
        for step in steps:
            progress.update(task, description=step)
            console.print(f"{step}: {_run_step(config, retraining, step)}", highlight=False)
    if "gate" in steps:
        show_verdict(console, retraining.gate(), retraining.folder / "gate.html")


def _run_step(config: RetrainConfig, retraining: Retraining, step: RetrainingStep) -> str:
    """Run a step and return its outcome in a few words."""
    match step:
        case "supervised":
            curve: Sequence[Mapping[str, Any]] = retraining.supervised()["curve"]
            return f"loss {curve[-1]['loss']:.4f}" if curve else "done"
        case "ppo":
            outcome = retraining.ppo()
            return "; ".join([f"the candidate is the {outcome['candidate']} checkpoint", *outcome["notes"]])
        case "calibrate":
            calibration = retraining.calibrate()
            return f"calibration error {calibration['before']:.3f} -> {calibration['after']:.3f}"
        case "gate":
            from gliclass_spark.report.verdict import write_verdict_page

            passed = retraining.gate()["promoted"]
            write_verdict_page(retraining.folder)
            return "the candidate passes" if passed else "the candidate is refused"
        case _:
            from gliclass_spark.retraining.promotion import publish

            version = publish(config, retraining)
            return f"{version.uri} is registered: {', '.join(version.aliases) or 'no alias'}"
