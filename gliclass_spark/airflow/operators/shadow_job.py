"""The shadow run of a pipeline as an Airflow task: the challenger tags beside the champion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from gliclass_spark.airflow.operators.spark_step import APPLICATION, SubmittedJob
from gliclass_spark.errors import GliclassSparkError, TableError

if TYPE_CHECKING:
    from airflow.sdk import Context


class ShadowJob(SubmittedJob):
    """Tag the latest run's documents with the challenger, into `shadow_tags`. Skipped while there is no challenger.

    pipeline_file: the pipeline's YAML file; its model is models:/NAME@champion. spark_conf: a file of Spark settings
    beyond those of the connection. kwargs: SparkSubmitOperator's, as conn_id.
    """

    template_fields = (*SubmittedJob.template_fields, "pipeline_file")

    def __init__(self, *, pipeline_file: str, spark_conf: str | None = None, **kwargs: Any) -> None:
        arguments = ["shadow", pipeline_file, "--json"]
        settings = {"application": APPLICATION, "application_args": arguments, **self.spark_settings(spark_conf)}
        super().__init__(**{**settings, **kwargs})
        self.pipeline_file = pipeline_file
        self._digest = ""

    def execute(self, context: Context) -> None:
        from gliclass_spark.airflow.checks.shadow_checks import challenger_digest

        try:
            digest = challenger_digest(self.pipeline_file)
        except GliclassSparkError as error:
            raise AirflowFailException(str(error)) from None
        if digest is None:
            raise AirflowSkipException("the model has no challenger, so nothing is to be compared")
        self._digest = digest
        super().execute(context)

    def output_number(self) -> int:
        from gliclass_spark.airflow.checks.shadow_checks import shadow_sequence

        return shadow_sequence(self.pipeline_file, self._digest)

    def verify_output(self) -> str:
        if not self.output_number():
            raise TableError(f"there is no manifest of a shadow run by the challenger ({self._digest[:12]})")
        return "the manifest of the shadow run is complete"
