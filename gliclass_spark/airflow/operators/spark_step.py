"""Spark jobs as Airflow tasks: a task succeeds when the job's output says so."""

from __future__ import annotations

from abc import abstractmethod
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException

import gliclass_spark
from gliclass_spark.airflow.operators.operator_arguments import file_argument, time_argument
from gliclass_spark.config.delta_jars import delta_settings
from gliclass_spark.config.pipeline import Pipeline, Step
from gliclass_spark.config.spark import read_conf
from gliclass_spark.errors import GliclassSparkError

if TYPE_CHECKING:
    from airflow.sdk import Context

# The jobs' run id is that of the DAG run: a retry resumes the attempt before it.
RUN_ID = "{{ run_id }}"
# A scheduled run reads the documents as of its due time, however late it runs. A manual or asset-triggered run has no
# interval, and reads the documents as of when it may start.
UNTIL = "{{ (data_interval_end | default(none) or dag_run.run_after).isoformat() }}"
# The date of that time, for rules: a backfill decides as the run of that day would have.
RUN_DATE = "{{ (data_interval_end | default(none) or dag_run.run_after).strftime('%Y-%m-%d') }}"
# The program that is submitted: its first argument is a command of gliclass-spark. A path, because to import it would
# load the commands.
APPLICATION = str(Path(gliclass_spark.__file__).parent / "cli" / "application" / "spark_application.py")


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

    The parameters `full` and `retag` of the DAG run, if it has them, become options of the job. The pipeline's file is
    read when the task runs, on this worker and by the job: both need the same path.

    pipeline_file: the pipeline's YAML file. run_id: names the run; a retry with the same one finishes it. until: the
    time as of which `tag` reads a Delta source; None reads its latest version. run_date: the date that rules see as
    `run_date`; None: the day on which the job begins. spark_conf: a file of Spark settings beyond those of the
    connection. kwargs: SparkSubmitOperator's, as conn_id. A wrong value raises TypeError or ValueError.
    """

    template_fields = (*SubmittedJob.template_fields, "pipeline_file", "run_id", "until", "run_date")

    def __init__(
        self,
        *,
        pipeline_file: str | PathLike[str],
        step: Step,
        run_id: str = RUN_ID,
        until: str | None = UNTIL,
        run_date: str | None = RUN_DATE,
        spark_conf: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"application": APPLICATION, **self.spark_settings(spark_conf), **kwargs})
        self.pipeline_file: str = file_argument("pipeline_file", pipeline_file)
        self.step = step
        self.run_id = run_id
        self.until: str | None = time_argument("until", until)
        self.run_date: str | None = time_argument("run_date", run_date)

    def arguments(self) -> list[str]:
        """Return the job's command and its arguments. Raises ConfigError for an invalid pipeline file."""
        pipeline = Pipeline.from_yaml(self.pipeline_file)
        # A source without versions is read as it is.
        reads_versions = self.step == "tag" and self.until is not None and pipeline.source.format == "delta"
        until = ["--until", str(self.until)] if reads_versions else []
        is_dated = self.step != "tag" and self.run_date is not None and pipeline.rules.uses_run_date
        run_date = ["--run-date", str(self.run_date)] if is_dated else []
        return [self.step, self.pipeline_file, "--run-id", self.run_id, *until, *run_date]

    def execute(self, context: Context) -> None:
        params = context.get("params") or {}
        retag, full = params.get("retag"), bool(params.get("full"))
        options = ["--retag", retag] if self.step == "tag" and retag else []
        # What was decided by an earlier attempt of the run is decided again, from the new tags.
        full = full or (retag == "all" and self.step != "tag")
        try:
            self.application_args = [*self.arguments(), *options, *(["--full"] if full else [])]
        except GliclassSparkError as error:
            raise AirflowException(str(error)) from error
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
