"""One DAG for each pipeline: plan -> tag -> filter -> route -> verify -> report."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, Asset, TriggerRule, task

from gliclass_spark.addresses import has_scheme
from gliclass_spark.airflow.alerts import OnFailure
from gliclass_spark.airflow.describe import describe
from gliclass_spark.airflow.step import SparkStep
from gliclass_spark.config import Pipeline
from gliclass_spark.errors import ConfigError
from gliclass_spark.schedule import Schedule

# The run of the jobs is Airflow's own: a retry finishes what the attempt before it began.
RUN_ID = "{{ run_id }}"
# The documents as they were when the night was due, however late it runs. A run that somebody or an asset starts has
# no interval, and takes what is there when it may start.
UNTIL = "{{ (data_interval_end | default(none) or dag_run.run_after).isoformat() }}"


def pipeline_dag(file: Path, pipeline: Pipeline, jobs: Path) -> DAG:
    """The DAG of the pipeline that `file` holds. `jobs` is the folder of the jobs that are submitted.

    Raises ConfigError for a pipeline without an `airflow:` part.
    """
    schedule = pipeline.airflow
    if schedule is None:
        raise ConfigError(f"{file}: there is no 'airflow' part; add one to schedule this pipeline")
    dag = DAG(
        dag_id=pipeline.name,
        schedule=_when(schedule),
        start_date=pendulum.datetime(*schedule.start.timetuple()[:3], tz=schedule.timezone),
        catchup=schedule.catchup,
        max_active_runs=1,
        auto_register=False,
        tags={"gliclass", *schedule.tags},
        description=f"{', '.join(pipeline.steps)} over {pipeline.source.path or pipeline.source.table}",
        doc_md=describe(file, pipeline),
        default_args={
            "owner": schedule.owner,
            "retries": schedule.retries,
            "retry_delay": timedelta(seconds=schedule.retry_delay_s),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(hours=1),
            "execution_timeout": timedelta(seconds=schedule.timeout_s),
            "on_failure_callback": OnFailure(schedule.alerts),
        },
    )
    with dag:
        steps = [_step(file, pipeline, schedule, step, jobs) for step in pipeline.steps]
        chain = [_plan(str(file), UNTIL), *steps, _verify(str(file), RUN_ID), _report(str(file), RUN_ID)]
        for one, next_ in pairwise(chain):
            one >> next_
    return dag


def asset(pipeline: Pipeline, table: str) -> Asset:
    """A table of the pipeline, as other pipelines' `airflow.after` calls it."""
    address = f"{pipeline.tables.rstrip('/')}/{table}"
    return Asset(f"{pipeline.name}.{table}", uri=address if has_scheme(address) else f"file://{address}")


def _when(schedule: Schedule) -> Any:
    if schedule.after:
        return [Asset.ref(name=name) for name in schedule.after]
    return schedule.cron


def _step(file: Path, pipeline: Pipeline, schedule: Schedule, step: str, jobs: Path) -> SparkStep:
    written = {
        "tag": ["tags"],
        "filter": ["kept", "rejected", "quarantined"],
        "route": list(pipeline.rules.destinations),
    }[step]
    # Files without versions are read as they are.
    until = ["--until", UNTIL] if step == "tag" and pipeline.source.format == "delta" else []
    return SparkStep(
        task_id=step,
        pipeline_file=str(file),
        step=step,
        application=str(jobs / f"{step}.py"),
        application_args=[str(file), "--run-id", RUN_ID, *until],
        conn_id=schedule.connection,
        name=f"{pipeline.name}.{step}",
        pool=schedule.pool if step == "tag" else "default_pool",
        outlets=[asset(pipeline, table) for table in written],
        **SparkStep.spark_settings(schedule.spark_conf),
    )


@task.short_circuit(task_id="plan", retries=0)
def _plan(file: str, until: str) -> bool:
    """Look at what the run would read, before anything is submitted: a missing table ends it here.

    A night that was due before the table's first version is skipped.
    """
    from gliclass_spark.airflow.checks import plan

    return plan(file, datetime.fromisoformat(until))


@task(task_id="verify", retries=0)
def _verify(file: str, run: str) -> None:
    """Success is what the manifest says, not what was seen of the jobs."""
    from gliclass_spark.airflow.checks import verify

    verify(file, run)


# Of a run that failed there is a report too; it fails behind it, so that the run does not count as a success.
@task(task_id="report", retries=0, trigger_rule=TriggerRule.ALL_DONE)
def _report(file: str, run: str) -> None:
    """Write the run's page, and tell what it warns of."""
    from gliclass_spark.airflow.checks import report

    report(file, run)
