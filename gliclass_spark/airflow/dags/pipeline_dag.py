"""One DAG for each pipeline: plan -> tag -> filter -> route -> verify -> report."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from pathlib import Path

from airflow.sdk import DAG, TriggerRule, task

from gliclass_spark.airflow.dags.description import describe
from gliclass_spark.airflow.dags.scheduled_dag import RUN_ID, asset, scheduled_dag
from gliclass_spark.airflow.operators.spark_step import SparkStep
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.schedule import Schedule
from gliclass_spark.errors import ConfigError

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
    dag = scheduled_dag(
        pipeline.name,
        schedule,
        catchup=schedule.catchup,
        description=f"{', '.join(pipeline.steps)} over {pipeline.source.path or pipeline.source.table}",
        doc_md=describe(file, pipeline),
    )
    with dag:
        steps = [_step(file, pipeline, schedule, step, jobs) for step in pipeline.steps]
        chain = [_plan(str(file), UNTIL), *steps, _verify(str(file), RUN_ID), _report(str(file), RUN_ID)]
        for one, next_ in pairwise(chain):
            one >> next_
    return dag


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
    from gliclass_spark.airflow.checks.run_checks import plan

    return plan(file, datetime.fromisoformat(until))


@task(task_id="verify", retries=0)
def _verify(file: str, run: str) -> None:
    """Success is what the manifest says, not what was seen of the jobs."""
    from gliclass_spark.airflow.checks.run_checks import verify

    verify(file, run)


# Of a run that failed there is a report too; it fails behind it, so that the run does not count as a success.
@task(task_id="report", retries=0, trigger_rule=TriggerRule.ALL_DONE)
def _report(file: str, run: str) -> None:
    """Write the run's page, and tell what it warns of."""
    from gliclass_spark.airflow.checks.run_checks import report

    report(file, run)
