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
from gliclass_spark.airflow.operators.training_step import TrainingStep, outcome_path

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
    """Retrain on feedback: snapshot, training, calibration, gate and promotion, in one task on this worker.

    With too few signals the task is skipped. A champion that does harm is rolled back, and nothing is trained. A retry
    continues where the attempt before it was stopped. The DAG of a retraining file has a task for each step instead,
    each on machines of its own.

    config_file: the retraining's YAML file. run_id: names the retraining. python: the interpreter of the training
    environment, None for this one.
    """

    def __init__(self, *, config_file: str | PathLike[str], **kwargs: Any) -> None:
        super().__init__(config_file=config_file, step="promote", **kwargs)

    def options(self) -> list[str]:
        """Return no options: the command does all steps."""
        return []

    def outcome_file(self) -> Path:
        """Return that of the promotion, or of the champion check if it has rolled the champion back."""
        check = outcome_path(self.config_file, self.run_id, "champion_check")
        if check.is_file() and json.loads(check.read_text(encoding="utf-8"))["rolled_back"]:
            return check
        return super().outcome_file()

    def execute(self, context: Context) -> None:
        from gliclass_spark.airflow.checks.champion_alert import alert_harm
        from gliclass_spark.airflow.checks.retraining_checks import plan

        if not plan(self.config_file, self.run_id, for_training=True):
            raise AirflowSkipException("there are too few signals for a retraining")
        super().execute(context)
        alert_harm(self.config_file, self.run_id)
