"""Spark jobs whose outcome is decided by what they wrote: a step of a pipeline, by the run's manifest."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException

from gliclass_spark.config.delta_jars import delta_settings
from gliclass_spark.config.spark import read_conf
from gliclass_spark.errors import GliclassSparkError

if TYPE_CHECKING:
    from airflow.sdk import Context


class SubmittedJob(SparkSubmitOperator):
    """Submit a job, then look at what it left behind.

    spark-submit's exit code, and what a cluster tells of a driver, have both been wrong either way: a job counts
    as done when what it wrote says so, and as failed when it does not.
    """

    @abstractmethod
    def evidence(self) -> str:
        """What says that the job did its work. Raises GliclassSparkError if nothing does."""

    @staticmethod
    def spark_settings(conf: str | None) -> dict[str, Any]:
        """What SparkSubmitOperator is given of a file of conf/spark, besides what the connection says."""
        settings = read_conf(conf)
        settings.pop("spark.master", None)  # the connection's business
        settings.setdefault("spark.log.level", "WARN")  # a task's log is read by people
        settings = {**delta_settings(settings), **settings}
        return {"packages": settings.pop("spark.jars.packages", None), "conf": settings}

    def execute(self, context: Context) -> None:
        told: Exception | None = None
        try:
            super().execute(context)
        except (AirflowException, RuntimeError) as error:
            told = error
        try:
            found = self.evidence()
        except GliclassSparkError as error:
            raise AirflowException(f"{error}; spark-submit: {told or 'success'}") from told
        if told is not None:
            self.log.warning("spark-submit told of a failure, but %s: %s", found, told)


class SparkStep(SubmittedJob):
    """A step of a pipeline: it is done when its row in `runs` says so."""

    template_fields = (*SubmittedJob.template_fields, "run_id")

    def __init__(self, *, pipeline_file: str, step: str, run_id: str = "{{ run_id }}", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline_file = pipeline_file
        self.step = step
        self.run_id = run_id

    def evidence(self) -> str:
        from gliclass_spark.airflow.checks.run_checks import done

        done(self.pipeline_file, self.run_id, self.step)
        return f"the manifest of {self.step} is whole"

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Called by Airflow's OpenLineage provider, where it is installed."""
        from gliclass_spark.airflow.checks.run_checks import done
        from gliclass_spark.airflow.lineage import lineage

        return lineage(*done(self.pipeline_file, self.run_id, self.step))
