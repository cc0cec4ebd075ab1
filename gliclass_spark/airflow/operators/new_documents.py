"""A sensor that waits for documents that no run of a pipeline has read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from gliclass_spark.airflow.operators.operator_arguments import file_argument

if TYPE_CHECKING:
    from airflow.sdk import Context


class NewDocumentsSensor(BaseSensorOperator):
    """Wait until the pipeline's source, a Delta table, has a version that no successful `tag` job has read.

    pipeline_file: the pipeline's YAML file. deferrable: whether Airflow's triggerer waits, and no worker. kwargs:
    BaseSensorOperator's, as poke_interval and timeout, in seconds. The task fails if the source can't be read.
    """

    template_fields = ("pipeline_file",)

    def __init__(self, *, pipeline_file: str | PathLike[str], deferrable: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline_file: str = file_argument("pipeline_file", pipeline_file)
        self.deferrable = deferrable

    def poke(self, context: Context) -> bool:
        from gliclass_spark.airflow.checks.run_checks import has_new_documents

        return has_new_documents(self.pipeline_file)

    def execute(self, context: Context) -> None:
        if not self.deferrable:
            super().execute(context)
        elif not self.poke(context):
            self.defer(
                trigger=NewDocumentsTrigger(self.pipeline_file, self.poke_interval),
                method_name="execute_complete",
                timeout=timedelta(seconds=self.timeout),
            )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:
        """Called when the trigger has fired."""
        self.log.info("%s has new documents", event["pipeline_file"])


class NewDocumentsTrigger(BaseTrigger):
    """Fires once the source of a pipeline has documents that no run has read. poke_interval: seconds between checks."""

    def __init__(self, pipeline_file: str, poke_interval: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pipeline_file = pipeline_file
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores of the trigger: its class, and the arguments of its constructor."""
        arguments = {"pipeline_file": self.pipeline_file, "poke_interval": self.poke_interval}
        return f"{type(self).__module__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Check until there are new documents."""
        from gliclass_spark.airflow.checks.run_checks import has_new_documents

        while not await sync_to_async(has_new_documents)(self.pipeline_file):
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent({"pipeline_file": self.pipeline_file})  # type: ignore[no-untyped-call]
