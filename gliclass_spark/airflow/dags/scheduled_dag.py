"""Scheduled DAGs: the `airflow:` part of a file as a DAG's schedule, retries and alerts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import DAG, Asset, AssetAll, AssetOrTimeSchedule, CronTriggerTimetable

from gliclass_spark.airflow.alerts import OnFailure
from gliclass_spark.config.catalog import table_path
from gliclass_spark.config.paths import has_scheme
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.schedule import Timing


def scheduled_dag(dag_id: str, timing: Timing, **arguments: Any) -> DAG:
    """Return a DAG without tasks. arguments: further arguments of DAG."""
    return DAG(
        dag_id=dag_id,
        schedule=_schedule(timing),
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
        **arguments,
    )


def _schedule(timing: Timing) -> Any:
    """Return the `schedule` of a DAG: a cron expression, assets, or both."""
    assets = [Asset.ref(name=name) for name in timing.after]
    if timing.cron is not None and assets:
        timetable = CronTriggerTimetable(timing.cron, timezone=timing.timezone)
        return AssetOrTimeSchedule(timetable=timetable, assets=AssetAll(*assets))
    return assets or timing.cron


def asset(pipeline: Pipeline, table: str) -> Asset:
    """Return the asset of a pipeline's table, by the name that `airflow.after` uses."""
    path = table_path(pipeline.tables, table)
    return Asset(f"{pipeline.name}.{table}", uri=path if has_scheme(path) else f"file://{path}")
