"""Operators for a DAG of one's own: the jobs of a pipeline, and its retraining. The DAGs of files are made of them.

Each runs in any DAG, beside other tasks, over a connection for Spark: standalone, YARN or Kubernetes.
"""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from gliclass_spark.airflow.operators.spark_step import SparkStep
from gliclass_spark.airflow.operators.training_step import TrainingStep, outcome_path, read_outcome

if TYPE_CHECKING:
    from airflow.sdk import Context


class GLiClassTagOperator(SparkStep):
    """Score the new and changed documents of a pipeline, into its table `tags`. The one job that needs GPUs.

    Takes the arguments of `SparkStep`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(step="tag", **kwargs)


class FilterOperator(SparkStep):
    """Decide by the pipeline's reject rules what is kept, rejected and quarantined.

    Takes the arguments of `SparkStep`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(step="filter", **kwargs)


class RouteOperator(SparkStep):
    """Send kept documents to the tables of the pipeline's routes. Takes the arguments of `SparkStep`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(step="route", **kwargs)


class RetrainOperator(TrainingStep):
    """Retrain on feedback: snapshot, champion check, training, calibration, gate and promotion, in one task.

    With too little feedback for all of this the task is skipped. With enough to check the champion by, it is checked
    first, and the task is skipped after that if there is too little to train on. A champion that does harm is rolled
    back, and nothing is trained. A retry continues where the attempt before it was stopped. The DAG of a retraining
    file has a task for each step instead, each on machines of its own.

    config_file: the retraining's YAML file. run_id: names the retraining. python: the interpreter of the training
    environment, None for this one.
    """

    def __init__(self, *, config_file: str | PathLike[str], **kwargs: Any) -> None:
        super().__init__(config_file=config_file, step="promote", **kwargs)

    def options(self) -> list[str]:
        """Return the option of a schedule: the command does all steps, and trains on new feedback only."""
        return ["--if-new-feedback"]

    def outcome_file(self) -> Path:
        """Return the file of the step that ends the retraining.

        That of the champion check if it has rolled the champion back, of check_feedback if it found too little to train
        on, else that of the promotion.
        """
        for step, key, ends in (("champion_check", "rolled_back", True), ("check_feedback", "trains", False)):
            path = outcome_path(self.config_file, self.run_id, step)
            if path.is_file() and json.loads(path.read_text(encoding="utf-8"))[key] is ends:
                return path
        return super().outcome_file()

    def execute(self, context: Context) -> None:
        from gliclass_spark.airflow.checks.champion_alert import alert_harm
        from gliclass_spark.airflow.checks.retraining_checks import can_train, plan

        if not plan(self.config_file, self.run_id):
            raise AirflowSkipException("there is too little feedback for a retraining, and for a check of the champion")
        super().execute(context)
        alert_harm(self.config_file, self.run_id)
        is_rolled_back = read_outcome(self.config_file, self.run_id, "champion_check")["rolled_back"]
        if not can_train(self.config_file, self.run_id) and not is_rolled_back:
            raise AirflowSkipException("the champion was checked, and there is too little feedback for a retraining")
