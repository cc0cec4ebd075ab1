"""The steps of a retraining as Airflow tasks: each is done when it has left the file that says what came of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias, BaseOperator
from airflow.sdk.exceptions import AirflowException

from gliclass_spark.airflow.operators.process_group import ProcessGroup
from gliclass_spark.airflow.operators.spark_step import SubmittedJob
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import TableError

if TYPE_CHECKING:
    from airflow.sdk import Context

# Lines come as they are printed, and tables are not folded into 80 columns.
_ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "COLUMNS": "160"}
# Those that share the work among the GPUs of a machine.
_ON_ALL_GPUS = ("supervised", "ppo")


def outcome_file(config_file: str, run_id: str, step: str) -> Path:
    """Where the step of a retraining says what came of it."""
    folder = RetrainConfig.from_yaml(config_file).run_folder(run_id)
    return folder / ("snapshot/snapshot.json" if step == "snapshot" else f"{step}.json")


def outcome(config_file: str, run_id: str, step: str) -> dict[str, Any]:
    """What came of a step that is done."""
    found: dict[str, Any] = json.loads(outcome_file(config_file, run_id, step).read_text(encoding="utf-8"))
    return found


class SnapshotJob(SubmittedJob):
    """Submit the Spark job that takes the snapshot which a retraining learns from."""

    template_fields = (*SubmittedJob.template_fields, "run_id")

    def __init__(self, *, config_file: str, run_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config_file = config_file
        self.run_id = run_id

    def evidence(self) -> str:
        file = outcome_file(self.config_file, self.run_id, "snapshot")
        if not file.is_file():
            raise TableError(
                f"there is no {file}; read above why the job wrote none, or mount the folder 'work' both where the "
                "job runs and here"
            )
        return "the snapshot is whole"


class TrainingStep(BaseOperator):
    """Run a step of a retraining on this worker, in the environment that trains.

    The step's file decides, not the exit code. An attempt goes on where the one before it was stopped.
    """

    template_fields = ("run_id",)

    def __init__(
        self,
        *,
        config_file: str,
        step: str,
        run_id: str,
        job: str,
        python: str | None = None,
        processes: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.config_file = config_file
        self.step = step
        self.run_id = run_id
        self.job = job
        self.python = python
        self.processes = processes
        self._group: ProcessGroup | None = None

    def command(self) -> list[str]:
        """What is run: by torchrun where several GPUs share the work."""
        several = self.processes > 1 and self.step in _ON_ALL_GPUS
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(self.processes)]
        python = [self.python or sys.executable, *(torchrun if several else [])]
        return [*python, self.job, self.config_file, "--run-id", self.run_id, "--step", self.step]

    def execute(self, context: Context) -> None:
        last = "it printed nothing"

        def told(line: str) -> None:
            nonlocal last
            self.log.info("%s", line)
            # Behind what the job says is wrong, torchrun speaks of itself.
            last = last if last.startswith("error: ") else line

        self._group = ProcessGroup(self.command(), _ENVIRONMENT)
        try:
            code = self._group.wait(told)
        finally:
            self.on_kill()
        file = outcome_file(self.config_file, self.run_id, self.step)
        if not file.is_file():
            raise AirflowException(f"{self.step} left no {file.name}; it ended with the exit code {code}: {last}")
        if code:
            self.log.warning("%s is done, but ended with the exit code %s", self.step, code)

    def on_kill(self) -> None:
        if self._group is not None:
            self._group.end()


class Promotion(TrainingStep):
    """Register the candidate, and promote it if it passed the gate. Only then the asset `model` changes."""

    def __init__(self, *, model: Asset, **kwargs: Any) -> None:
        # By way of an alias: a task's other outlets change whenever it succeeds.
        self._promoted = AssetAlias(f"{model.name}.promoted")
        super().__init__(outlets=[self._promoted], **kwargs)
        self.model = model

    def execute(self, context: Context) -> None:
        super().execute(context)
        if outcome(self.config_file, self.run_id, "gate")["promoted"]:
            version = outcome(self.config_file, self.run_id, self.step)["version"]
            context["outlet_events"][self._promoted].add(self.model, extra={"version": version})
