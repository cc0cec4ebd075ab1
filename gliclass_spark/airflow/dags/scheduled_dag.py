"""A DAG as the `airflow:` part of a file wants it: when it starts, how often it tries, whom it tells."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import DAG, Asset, AssetAll, AssetOrTimeSchedule, CronTriggerTimetable

from gliclass_spark.airflow.alerts import OnFailure
from gliclass_spark.config.paths import has_scheme
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.schedule import Timing

# The run of the jobs is Airflow's own: a retry finishes what the attempt before it began.
RUN_ID = "{{ run_id }}"


def scheduled_dag(dag_id: str, timing: Timing, **about: Any) -> DAG:
    """A DAG without tasks. `about`: more of what DAG takes."""
    return DAG(
        dag_id=dag_id,
        schedule=_starts(timing),
        start_date=pendulum.datetime(*timing.start.timetuple()[:3], tz=timing.timezone),
        max_active_runs=1,
        auto_register=False,
        tags={"gliclass", *timing.tags},
        default_args={
            "owner": timing.owner,
            "retries": timing.retries,
            "retry_delay": timedelta(seconds=timing.retry_delay_s),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(hours=1),
            "execution_timeout": timedelta(seconds=timing.timeout_s),
            "on_failure_callback": OnFailure(timing.alerts),
        },
        **about,
    )


def _starts(timing: Timing) -> Any:
    """What starts a run, as DAG takes it: a time, tables that were written, or both."""
    written = [Asset.ref(name=name) for name in timing.after]
    if timing.cron is not None and written:
        due = CronTriggerTimetable(timing.cron, timezone=timing.timezone)
        return AssetOrTimeSchedule(timetable=due, assets=AssetAll(*written))
    return written or timing.cron


def asset(pipeline: Pipeline, table: str) -> Asset:
    """A table of the pipeline, as `airflow.after` calls it."""
    address = f"{pipeline.tables.rstrip('/')}/{table}"
    return Asset(f"{pipeline.name}.{table}", uri=address if has_scheme(address) else f"file://{address}")
