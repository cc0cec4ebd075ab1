"""The command that retrains a pipeline's model on feedback."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from gliclass_spark.cli.console import console, messages, progress, step
from gliclass_spark.cli.options.spark_options import SparkConf, Verbose, open_spark
from gliclass_spark.cli.output.json_output import AsJson, print_json
from gliclass_spark.config.retraining import RETRAINING_STEPS, RetrainConfig, RetrainingStep
from gliclass_spark.errors import ConfigError

if TYPE_CHECKING:
    from gliclass_spark.retraining.steps import Retraining

app = typer.Typer()

CHAMPION_CHECK: RetrainingStep = "champion_check"
CHECK_FEEDBACK: RetrainingStep = "check_feedback"
# Of a retraining by hand, which trains on whatever feedback there is.
STEPS_AFTER_SNAPSHOT = tuple(step for step in RETRAINING_STEPS if step not in ("snapshot", CHECK_FEEDBACK))

# Of a training in a log, which can't update a line; and metrics on a line of a terminal.
_LOG_LINES, _MAX_METRICS, _BAR_WIDTH = 10, 4, 12
_DESCRIPTIONS: dict[RetrainingStep, str] = {
    "champion_check": "comparing the champion with the version before it",
    "check_feedback": "counting what can be trained on",
    "supervised": "training on judged texts",
    "ppo": "training on rewards",
    "calibrate": "fitting the scores to the golden set",
    "gate": "comparing the candidate with the champion",
    "promote": "registering the candidate",
}
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
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only show the evidence, what the gate can detect and what the training will read."
        ),
    ] = False,
    if_new_feedback: Annotated[
        bool,
        typer.Option(
            "--if-new-feedback",
            help="Train only with min_decisions decisions and min_new_signals new signals, as a schedule does: with "
            "fewer, only the champion is checked, and the command succeeds.",
        ),
    ] = False,
    conf: SparkConf = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Train a candidate on the feedback to a pipeline's decisions, and promote it if it passes the gate.

    snapshot (Spark) -> champion_check -> supervised -> ppo -> calibrate -> gate -> promote. "gliclass-spark rollback"
    undoes a promotion; champion_check does, and trains nothing, if feedback on the champion's decisions shows harm. It
    needs less feedback than a training, and comes first. With --if-new-feedback, check_feedback follows it.

    With --check it trains and writes nothing, needs no Spark, and exits with 2 if the retraining would stop.
    """
    if check:
        if step is not None or run_id is not None:
            raise ConfigError("--check looks at what the next retraining would do; give it without --run-id and --step")
        check_retraining(RetrainConfig.from_yaml(config), as_json)
        return
    if as_json:
        raise ConfigError("--json needs --check: a retraining writes its outcomes as JSON to the folder `work`")
    if step is not None and run_id is None:
        raise ConfigError(f"--step {step} needs --run-id: the id of the retraining that it is a step of")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and step not in _DISTRIBUTED_STEPS:
        raise ConfigError(
            f"torchrun's processes share only the steps {' and '.join(_DISTRIBUTED_STEPS)}, and each would repeat the "
            "others; give --run-id and --step to torchrun for these, and run the others without it"
        )
    if step is not None and if_new_feedback:
        raise ConfigError(f"--if-new-feedback is about a whole retraining; give it without --step {step}")
    settings, run_id = RetrainConfig.from_yaml(config), run_id or f"retrain-{uuid4().hex[:8]}"
    console.print(f"retraining {run_id} of {settings.model_name!r}", highlight=False)
    if step in (None, "snapshot"):
        take_snapshot(settings, run_id, conf, verbose)
    if step is None:
        run_steps(settings, run_id, RETRAINING_STEPS[1:] if if_new_feedback else STEPS_AFTER_SNAPSHOT)
    elif step != "snapshot":
        run_steps(settings, run_id, (step,))


def check_retraining(config: RetrainConfig, as_json: bool) -> None:
    """Show what can be known before the retraining. Raises typer.Exit with 2 if it would stop."""
    from gliclass_spark.cli.output.readiness_output import readiness_document, show_readiness
    from gliclass_spark.cli.output.retraining_outlook import outlook_document, show_outlook
    from gliclass_spark.retraining.champion_evidence import expected_check
    from gliclass_spark.retraining.readiness import check_readiness
    from gliclass_spark.runs.due.retraining_due import retraining_due

    champion, due = expected_check(config), retraining_due(config.pipeline)
    readiness = check_readiness(config)
    if as_json:
        print_json({**readiness_document(config, readiness), **outlook_document(champion, due)})
    else:
        show_outlook(console, champion, due)
        show_readiness(console, config, readiness)
    if readiness.problems:
        raise typer.Exit(ConfigError.exit_code)


def take_snapshot(config: RetrainConfig, run_id: str, conf: Path | None, verbose: bool = False) -> None:
    """Run the step "snapshot", the one that needs Spark."""
    from gliclass_spark.spark.jobs.feedback.snapshot import snapshot

    with open_spark(conf, verbose, f"the retraining of {config.model_name!r}") as spark:
        folder = str(config.run_folder(run_id) / "snapshot")
        with step("taking the snapshot"):
            taken = snapshot(
                spark,
                config.pipeline,
                folder,
                config.holdout_share,
                max_source_share=config.max_source_share,
                resolve=config.feedback.resolve,
            )
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in taken.counts.items())
    console.print(f"snapshot: {counts}", highlight=False)


def run_steps(config: RetrainConfig, run_id: str, steps: Sequence[RetrainingStep]) -> None:
    """Run steps after the snapshot and print their outcomes, and the verdict if the gate is one of them.

    A champion that is rolled back ends them, and so does check_feedback with too little to train on. Progress goes to
    standard error: a bar on a terminal, else a line for each step and some for its training.
    """
    from gliclass_spark.cli.output.retraining_output import show_verdict
    from gliclass_spark.retraining.champion_check import refuse_after_rollback, was_rolled_back
    from gliclass_spark.retraining.promotion import open_retraining
    from gliclass_spark.runs.due.training_feedback import recorded_feedback_check

    bar = training_bar()
    logged: dict[str, int] = {}

    def show_metrics(step: str, done: int, metrics: Mapping[str, float]) -> None:
        shown = "  ".join(f"{name} {value:.4g}" for name, value in list(metrics.items())[:_MAX_METRICS])
        total = config.ppo.steps if step == "ppo" and config.ppo is not None else retraining.supervised_steps
        bar.update(bar.task_ids[-1], description=f"{step} {done}/{total}", completed=done, total=total, metrics=shown)
        part = done * _LOG_LINES // total
        if not messages.is_terminal and part > logged.get(step, 0):
            logged[step] = part
            _note(f"{step} {done}/{total}: {shown}")

    retraining = open_retraining(config, run_id, show_metrics)

    def run(name: RetrainingStep) -> None:
        if not messages.is_terminal:
            _note(f"{name}: {_DESCRIPTIONS[name]}")
        # The outcome is printed when the bar is gone: both may be on one terminal.
        with bar:
            task = bar.add_task(f"{name}: {_DESCRIPTIONS[name]}", total=None, metrics="")
            outcome = _run_step(config, retraining, name)
            bar.remove_task(task)
        console.print(f"{name}: {outcome}", highlight=False, soft_wrap=True, markup=False)

    if CHAMPION_CHECK in steps:
        run(CHAMPION_CHECK)
        if was_rolled_back(retraining.folder):
            return
    else:
        refuse_after_rollback(retraining.folder)
    if CHECK_FEEDBACK in steps:
        run(CHECK_FEEDBACK)
        check = recorded_feedback_check(retraining.folder)
        if check is not None and not check.trains:
            return
    training = [name for name in steps if name not in (CHAMPION_CHECK, CHECK_FEEDBACK)]
    # Read behind the checks: what is too little to train on may be enough to check the champion by.
    for note in retraining.data.notes if training else ():
        _note(f"note: {note}", style="yellow")
    for name in training:
        run(name)
    if "gate" in steps:
        show_verdict(console, retraining.gate(), retraining.folder / "gate.html")


class _MetricsColumn(ProgressColumn):
    """The metrics of a task, the one column that gives way: rich shortens columns that may wrap."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["metrics"], no_wrap=True, overflow="ellipsis")


def training_bar() -> Progress:
    """Return a bar of one line, at every width of a terminal, for tasks with the field `metrics`."""

    def fixed() -> Column:
        return Column(no_wrap=True)

    return progress(
        SpinnerColumn(table_column=fixed()),
        TextColumn("{task.description}", table_column=fixed()),
        BarColumn(bar_width=_BAR_WIDTH, table_column=fixed()),
        TimeElapsedColumn(table_column=fixed()),
        _MetricsColumn(),
    )


def _note(text: str, style: str = "") -> None:
    messages.print(text, style=style, highlight=False, soft_wrap=True, markup=False)


def _run_step(config: RetrainConfig, retraining: Retraining, step: RetrainingStep) -> str:
    """Run a step and return its outcome in a few words."""
    match step:
        case "champion_check":
            from gliclass_spark.retraining.champion_check import check_champion

            check = check_champion(config, retraining.folder, retraining.run_id, retraining.champion)
            if check["rolled_back"]:
                return (
                    f"version {check['version']} is rolled back to version {check['previous']}, and nothing is "
                    f"trained: {check['message']}"
                )
            return f"{'HARM, and no automatic rollback: ' if check['harm'] else ''}{check['message']}"
        case "check_feedback":
            from gliclass_spark.runs.due.training_feedback import check_feedback

            feedback = check_feedback(config, retraining.run_id)
            return f"{'' if feedback.trains else 'nothing is trained: '}{feedback.message}"
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
            aliases = ", ".join(version.aliases) or "no alias"
            waits = json.loads((retraining.folder / "promote.json").read_text(encoding="utf-8")).get("waits_for_shadow")
            hint = f"; gate.shadow: it waits for gliclass-spark shadow {config.pipeline_file}" if waits else ""
            return f"{version.uri} is registered: {aliases}{hint}"
