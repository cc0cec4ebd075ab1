"""One DAG for each retraining: plan, the steps in the order of RETRAINING_STEPS, notify."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, task

from gliclass_spark.airflow.dags.description import describe_retraining
from gliclass_spark.airflow.dags.scheduled_dag import asset, scheduled_dag
from gliclass_spark.airflow.operators.spark_step import RUN_ID
from gliclass_spark.airflow.operators.training_step import ChampionCheckStep, Promotion, SnapshotJob, TrainingStep
from gliclass_spark.config.retraining import RETRAINING_STEPS, RetrainConfig, RetrainingStep
from gliclass_spark.config.schedule import RetrainSchedule
from gliclass_spark.errors import ConfigError

_GPU_STEPS: tuple[RetrainingStep, ...] = ("supervised", "ppo", "calibrate", "gate")


def retrain_dag(file: Path, config: RetrainConfig) -> DAG:
    """Return the DAG `PIPELINE.retrain` of a retraining file. Raises ConfigError for one without an `airflow:` part."""
    schedule = config.airflow
    if schedule is None:
        raise ConfigError(f"{file}: there is no 'airflow' part; add one to schedule this retraining")
    name = config.pipeline.name
    # Pipeline names have no dot, so no pipeline has this id.
    dag = scheduled_dag(
        f"{name}.retrain",
        schedule,
        catchup=False,  # a missed run would train on the same feedback as the next one
        description=f"a candidate for {config.pipeline.model}, trained on feedback",
        doc_md=describe_retraining(file, config),
    )
    with dag:
        arguments = _step_arguments(file, schedule)
        steps: dict[RetrainingStep, Any] = {
            "snapshot": _snapshot(file, config, schedule),
            "champion_check": ChampionCheckStep(
                task_id="champion_check", model=_model(config), pool=schedule.pool, **arguments
            ),
            "check_feedback": _check_feedback(str(file), RUN_ID),
            **{step: TrainingStep(task_id=step, step=step, pool=schedule.pool, **arguments) for step in _GPU_STEPS},
            "promote": Promotion(task_id="promote", step="promote", model=_model(config), **arguments),
        }
        ordered = [_plan(str(file), RUN_ID), *(steps[step] for step in RETRAINING_STEPS), _notify(str(file), RUN_ID)]
        for task_, next_task in pairwise(ordered):
            task_ >> next_task
    return dag


def _model(config: RetrainConfig) -> Asset:
    """Return the asset that a promotion updates, by the name that `airflow.after` uses."""
    return Asset(f"{config.pipeline.name}.model", uri=config.pipeline.model)


def _step_arguments(file: Path, schedule: RetrainSchedule) -> dict[str, Any]:
    return {
        "config_file": str(file),
        "run_id": RUN_ID,
        "python": schedule.python,
        "processes": schedule.processes,
    }


def _snapshot(file: Path, config: RetrainConfig, schedule: RetrainSchedule) -> SnapshotJob:
    return SnapshotJob(
        task_id="snapshot",
        config_file=str(file),
        run_id=RUN_ID,
        conn_id=schedule.connection,
        name=f"{config.pipeline.name}.retrain.snapshot",
        # Inlets, so that Airflow knows two assets that no task lists as an outlet.
        inlets=[asset(config.pipeline, "feedback"), _model(config)],
        spark_conf=schedule.spark_conf,
    )


@task.short_circuit(task_id="plan", retries=0)
def _plan(file: str, run: str) -> bool:
    """Check for enough signals, before anything is submitted. With too few, the run is skipped."""
    from gliclass_spark.airflow.checks.retraining_checks import plan

    return plan(file, run)


@task.short_circuit(task_id="check_feedback", retries=0)
def _check_feedback(file: str, run: str) -> bool:
    """Check for enough decisions to train on. With too few, or after a rollback, the rest is skipped."""
    from gliclass_spark.airflow.checks.retraining_checks import can_train

    return can_train(file, run)


@task(task_id="notify")
def _notify(file: str, run: str) -> None:
    """Send the gate's verdict, whether the candidate was promoted or refused."""
    from gliclass_spark.airflow.checks.retraining_checks import notify

    notify(file, run)
