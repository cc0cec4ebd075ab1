"""One DAG for each pipeline: plan -> tag -> filter -> route -> verify -> report, and tag -> shadow -> report."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import get_args

from airflow.sdk import DAG, Param, TriggerRule, task

from gliclass_spark.airflow.dags.description import describe
from gliclass_spark.airflow.dags.scheduled_dag import asset, scheduled_dag
from gliclass_spark.airflow.operators.pipeline_operators import FilterOperator, GLiClassTagOperator, RouteOperator
from gliclass_spark.airflow.operators.shadow_job import ShadowJob
from gliclass_spark.airflow.operators.spark_step import RUN_ID, UNTIL, SparkStep
from gliclass_spark.config.model_uri import CHAMPION, REGISTERED
from gliclass_spark.config.pipeline import Pipeline, Retag
from gliclass_spark.config.schedule import Schedule
from gliclass_spark.errors import ConfigError

_OPERATORS: dict[str, Callable[..., SparkStep]] = {
    "tag": GLiClassTagOperator,
    "filter": FilterOperator,
    "route": RouteOperator,
}


def pipeline_dag(file: Path, pipeline: Pipeline) -> DAG:
    """Return the DAG of a pipeline file. Raises ConfigError for a pipeline without an `airflow:` part."""
    schedule = pipeline.airflow
    if schedule is None:
        raise ConfigError(f"{file}: there is no 'airflow' part; add one to schedule this pipeline")
    dag = scheduled_dag(
        pipeline.name,
        schedule,
        catchup=schedule.catchup,
        params=_params(),
        description=f"{', '.join(pipeline.steps)} over {pipeline.source.path or pipeline.source.table}",
        doc_md=describe(file, pipeline),
    )
    with dag:
        steps = [_step(file, pipeline, schedule, step) for step in pipeline.steps]
        tasks = [_plan(str(file), UNTIL), *steps, _verify(str(file), RUN_ID), _report(str(file), RUN_ID)]
        for task_, next_task in pairwise(tasks):
            task_ >> next_task
        if schedule.shadow:
            # Beside the pipeline, which does not wait for it, and is not failed by it: the report is the last task.
            dag.get_task("tag") >> _shadow(file, pipeline, schedule) >> tasks[-1]
    return dag


def _shadow(file: Path, pipeline: Pipeline, schedule: Schedule) -> ShadowJob:
    if not (pipeline.model.startswith(REGISTERED) and pipeline.model.endswith(f"@{CHAMPION}")):
        raise ConfigError(
            f"{file}: airflow.shadow compares with the challenger of a registered model, and the pipeline's model is "
            f"{pipeline.model!r}; write model: {REGISTERED}NAME@{CHAMPION}, or remove 'shadow'"
        )
    return ShadowJob(
        task_id="shadow",
        pipeline_file=str(file),
        conn_id=schedule.connection,
        name=f"{pipeline.name}.shadow",
        pool=schedule.pool,
        spark_conf=schedule.spark_conf,
    )


def _params() -> dict[str, Param]:
    """Return the parameters of a run that is triggered by hand; a scheduled run has the defaults."""
    return {
        "full": Param(
            False, type="boolean", title="full", description="Read every document, not only the changed ones."
        ),
        "retag": Param(
            "changed",
            type="string",
            enum=list(get_args(Retag)),
            title="retag",
            description="Documents to score: those whose text, labels or model changed, all, or none that have scores.",
        ),
    }


def _step(file: Path, pipeline: Pipeline, schedule: Schedule, step: str) -> SparkStep:
    tables = {
        "tag": ["tags"],
        "filter": ["kept", "rejected", "quarantined"],
        "route": list(pipeline.rules.destinations),
    }[step]
    return _OPERATORS[step](
        task_id=step,
        pipeline_file=str(file),
        conn_id=schedule.connection,
        name=f"{pipeline.name}.{step}",
        pool=schedule.pool if step == "tag" else "default_pool",
        outlets=[asset(pipeline, table) for table in tables],
        spark_conf=schedule.spark_conf,
    )


@task.short_circuit(task_id="plan", retries=0)
def _plan(file: str, until: str) -> bool:
    """Check the source before anything is submitted: a missing table fails the run here.

    A run that was due before the table's first version is skipped.
    """
    from gliclass_spark.airflow.checks.run_checks import plan

    return plan(file, datetime.fromisoformat(until))


@task(task_id="verify", retries=0)
def _verify(file: str, run: str) -> None:
    """Check the manifests: they decide about success, not the states of the jobs."""
    from gliclass_spark.airflow.checks.run_checks import verify

    verify(file, run)


# A failed run has a report, too. The task then fails, so that the run does not count as a success.
@task(task_id="report", retries=0, trigger_rule=TriggerRule.ALL_DONE)
def _report(file: str, run: str) -> None:
    """Write the run's page and send its warnings."""
    from gliclass_spark.airflow.checks.run_checks import report

    report(file, run)
