"""Retraining steps as Airflow tasks: a task succeeds when its step has written its outcome file."""

from __future__ import annotations

import json
import os
import sys
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias, BaseOperator
from airflow.sdk.exceptions import AirflowException

from gliclass_spark.airflow.operators.operator_arguments import file_argument
from gliclass_spark.airflow.operators.process_group import ProcessGroup
from gliclass_spark.airflow.operators.spark_step import APPLICATION, RUN_ID, SubmittedJob
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import TableError

if TYPE_CHECKING:
    from airflow.sdk import Context

# Unbuffered, so that lines are logged when they are printed; wide, so that tables are not folded into 80 columns.
_VARIABLES = {"PYTHONUNBUFFERED": "1", "COLUMNS": "160"}
# The steps that train on several GPUs.
_DISTRIBUTED_STEPS = ("supervised", "ppo")


def outcome_path(config_file: str, run_id: str, step: str) -> Path:
    """Return the path of a step's outcome file."""
    folder = RetrainConfig.from_yaml(config_file).run_folder(run_id)
    return folder / ("snapshot/snapshot.json" if step == "snapshot" else f"{step}.json")


def read_outcome(config_file: str, run_id: str, step: str) -> dict[str, Any]:
    """Return the outcome of a step that has finished."""
    outcome: dict[str, Any] = json.loads(outcome_path(config_file, run_id, step).read_text(encoding="utf-8"))
    return outcome


class SnapshotJob(SubmittedJob):
    """Submit the Spark job that takes a retraining's snapshot."""

    template_fields = (*SubmittedJob.template_fields, "run_id")

    def __init__(self, *, config_file: str, run_id: str = RUN_ID, spark_conf: str | None = None, **kwargs: Any) -> None:
        arguments = ["retrain", config_file, "--run-id", run_id, "--step", "snapshot"]
        settings = {"application": APPLICATION, "application_args": arguments, **self.spark_settings(spark_conf)}
        super().__init__(**{**settings, **kwargs})
        self.config_file = config_file
        self.run_id = run_id

    def output_number(self) -> int:
        return int(outcome_path(self.config_file, self.run_id, "snapshot").is_file())

    def verify_output(self) -> str:
        path = outcome_path(self.config_file, self.run_id, "snapshot")
        if not path.is_file():
            raise TableError(
                f"{path} does not exist; see the job's error above, or mount the folder 'work' both where the job "
                "runs and here"
            )
        return "the snapshot is complete"


class TrainingStep(BaseOperator):
    """Run a step of a retraining on this worker, in the training environment.

    The step's outcome file decides about success, not the exit code. A file that an earlier attempt left counts only
    with exit code 0: then the step itself saw that nothing was left to do. A retry resumes a stopped step.
    """

    template_fields = ("config_file", "run_id")

    def __init__(
        self,
        *,
        config_file: str | PathLike[str],
        step: str,
        run_id: str = RUN_ID,
        python: str | None = None,
        processes: int = 1,
        application: str = APPLICATION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if processes < 1:
            raise ValueError(
                f"processes must be a whole number from 1 on, found {processes!r}; give the number of GPUs"
            )
        self.config_file: str = file_argument("config_file", config_file)
        self.step = step
        self.run_id = run_id
        self.python = python
        self.processes = processes
        self.application = application
        self._group: ProcessGroup | None = None

    def command(self) -> list[str]:
        """Return the command of the step, by torchrun if it trains on several GPUs."""
        distributed = self.processes > 1 and self.step in _DISTRIBUTED_STEPS
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(self.processes)]
        python = [self.python or sys.executable, *(torchrun if distributed else [])]
        return [*python, self.application, "retrain", self.config_file, "--run-id", self.run_id, *self.options()]

    def options(self) -> list[str]:
        """Return the options that say what to do of the retraining."""
        return ["--step", self.step]

    def outcome_file(self) -> Path:
        """Return the file that exists once the step is done."""
        return outcome_path(self.config_file, self.run_id, self.step)

    def execute(self, context: Context) -> None:
        message = "no output"

        def log_line(line: str) -> None:
            nonlocal message
            self.log.info("%s", line)
            # torchrun prints a report of its own after the job's error.
            message = message if message.startswith("error: ") else line

        done_before = self.outcome_file().is_file()
        self._group = ProcessGroup(self.step, self.command(), env={**os.environ, **_VARIABLES})
        try:
            code = self._group.stream(log_line)
        finally:
            self.on_kill()
        path = self.outcome_file()
        if not path.is_file() or (code and done_before):
            of_earlier = f" in this attempt, only in an earlier one ({path})" if done_before else ""
            raise AirflowException(
                f"{self.step} wrote no {path.name}{of_earlier}; it ended with the exit code {code}: {message}"
            )
        if code:
            self.log.warning("%s has finished, but ended with the exit code %s", self.step, code)

    def on_kill(self) -> None:
        if self._group is not None:
            self._group.end()


class ChampionCheckStep(TrainingStep):
    """Check the champion by feedback on its own decisions. A rollback is alerted, and updates the asset `model`."""

    def __init__(self, *, model: Asset, **kwargs: Any) -> None:
        self._rolled_back = AssetAlias(f"{model.name}.rolled_back")
        super().__init__(step="champion_check", outlets=[self._rolled_back], **kwargs)
        self.model = model

    def execute(self, context: Context) -> None:
        from gliclass_spark.airflow.checks.champion_alert import alert_harm

        super().execute(context)
        outcome = read_outcome(self.config_file, self.run_id, self.step)
        if outcome["rolled_back"]:
            context["outlet_events"][self._rolled_back].add(self.model, extra={"version": outcome["previous"]})
        alert_harm(self.config_file, self.run_id)


class Promotion(TrainingStep):
    """Register the candidate, and promote it if it passed the gate. A promotion updates the asset `model`."""

    def __init__(self, *, model: Asset, **kwargs: Any) -> None:
        # An alias, because a task's plain outlets are updated whenever it succeeds.
        self._promoted = AssetAlias(f"{model.name}.promoted")
        super().__init__(outlets=[self._promoted], **kwargs)
        self.model = model

    def execute(self, context: Context) -> None:
        super().execute(context)
        outcome = read_outcome(self.config_file, self.run_id, self.step)
        if outcome.get("promoted", read_outcome(self.config_file, self.run_id, "gate")["promoted"]):
            version = outcome["version"]
            context["outlet_events"][self._promoted].add(self.model, extra={"version": version})
