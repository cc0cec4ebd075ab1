"""Spark jobs as Airflow tasks: a task succeeds when the job's output says so."""

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
    """Submit a job, then verify its output.

    The exit code of spark-submit and the driver state that a cluster reports are unreliable: a job can fail with
    code 0, and succeed with another one. Its output decides. Output that an earlier attempt left counts only if the
    submission succeeds, too: then the job itself saw that nothing was left to do.
    """

    def __init__(self, **kwargs: Any) -> None:
        # An attempt submits its job. The provider's default would reconnect to the driver of an earlier attempt, also
        # of one before the task was cleared, and would skip the submission if that driver succeeded.
        super().__init__(durable=False, **kwargs)
        self.requires_new_output = False

    @abstractmethod
    def output_number(self) -> int:
        """Return a number that is greater after an attempt that left output. Raises GliclassSparkError."""

    @abstractmethod
    def verify_output(self) -> str:
        """Return what shows that the job succeeded. Raises GliclassSparkError if it did not."""

    @staticmethod
    def spark_settings(conf: str | None) -> dict[str, Any]:
        """Return the arguments of SparkSubmitOperator for a file of conf/spark."""
        settings = read_conf(conf)
        settings.pop("spark.master", None)  # set by the connection
        settings.setdefault("spark.log.level", "WARN")  # task logs are read by people
        settings = {**delta_settings(settings), **settings}
        return {"packages": settings.pop("spark.jars.packages", None), "conf": settings}

    def execute(self, context: Context) -> None:
        try:
            earlier = self.output_number()
        except GliclassSparkError as error:
            raise AirflowException(str(error)) from error
        submit_error: Exception | None = None
        try:
            super().execute(context)
        except (AirflowException, RuntimeError) as error:
            submit_error = error
        outcome = f"spark-submit: {submit_error or 'success'}"
        try:
            evidence = self.verify_output()
            is_new = self.output_number() > earlier
        except GliclassSparkError as error:
            raise AirflowException(f"{error}; {outcome}") from submit_error
        if not is_new and (submit_error is not None or self.requires_new_output):
            raise AirflowException(f"{evidence}, but it is that of an earlier attempt; {outcome}") from submit_error
        if submit_error is not None:
            self.log.warning("spark-submit reported a failure, but %s: %s", evidence, submit_error)


class SparkStep(SubmittedJob):
    """A step of a pipeline: it succeeds when its manifest in `runs` does.

    The parameters `full` and `retag` of the DAG run become options of the job.
    """

    template_fields = (*SubmittedJob.template_fields, "run_id")

    def __init__(self, *, pipeline_file: str, step: str, run_id: str = "{{ run_id }}", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline_file = pipeline_file
        self.step = step
        self.run_id = run_id

    def execute(self, context: Context) -> None:
        params = context.get("params") or {}
        retag, full = params.get("retag"), bool(params.get("full"))
        options = ["--retag", retag] if self.step == "tag" and retag else []
        # What was decided by an earlier attempt of the run is decided again, from the new tags.
        full = full or (retag == "all" and self.step != "tag")
        self.application_args = [*(self.application_args or []), *options, *(["--full"] if full else [])]
        # The job then works, even if an earlier attempt of the run succeeded.
        self.requires_new_output = full or retag == "all"
        super().execute(context)

    def output_number(self) -> int:
        from gliclass_spark.airflow.checks.run_checks import last_sequence

        return last_sequence(self.pipeline_file, self.run_id, self.step)

    def verify_output(self) -> str:
        from gliclass_spark.airflow.checks.run_checks import verified_manifest

        verified_manifest(self.pipeline_file, self.run_id, self.step)
        return f"the manifest of {self.step} is complete"

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Called by Airflow's OpenLineage provider, where it is installed."""
        from gliclass_spark.airflow.checks.run_checks import verified_manifest
        from gliclass_spark.airflow.lineage import lineage

        return lineage(*verified_manifest(self.pipeline_file, self.run_id, self.step))
