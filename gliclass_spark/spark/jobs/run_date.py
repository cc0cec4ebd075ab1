"""The date of a run, for rules that use `run_date`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime

from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun


def date_settings(run: PipelineRun, recent: Iterable[Manifest]) -> dict[str, date]:
    """Return {"run_date": the date of the run, in UTC} if a rule uses it, else an empty dict.

    The date is the same in every job and every attempt of a run: `run.run_date`, else that of `until`, else the day of
    the run's first claim. It is a setting: a run of another date decides about all documents again. recent: the result
    of `Runs.recent`.
    """
    if not run.pipeline.rules.uses_run_date:
        return {}
    if run.run_date is not None:
        return {"run_date": run.run_date}
    claims = [manifest.started_at for manifest in recent if manifest.run_id == run.run_id]
    moment = run.until or min(claims, default=datetime.now(UTC))
    return {"run_date": moment.astimezone(UTC).date()}
