"""One DAG for each retraining.

plan -> snapshot -> enough -> supervised -> ppo -> calibrate -> gate -> promote -> notify
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, task

from gliclass_spark.airflow.dags.description import describe_retraining
from gliclass_spark.airflow.dags.scheduled_dag import RUN_ID, asset, scheduled_dag
from gliclass_spark.airflow.operators.training_step import Promotion, SnapshotJob, TrainingStep
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.config.schedule import RetrainSchedule
from gliclass_spark.errors import ConfigError

_TRAINED = ("supervised", "ppo", "calibrate", "gate")


def retrain_dag(file: Path, config: RetrainConfig, jobs: Path) -> DAG:
    """The DAG `PIPELINE.retrain` of the retraining that `file` describes. `jobs`: the folder of the jobs.

    Raises ConfigError for a file without an `airflow:` part.
    """
    schedule = config.airflow
    if schedule is None:
        raise ConfigError(f"{file}: there is no 'airflow' part; add one to schedule this retraining")
    name = config.pipeline.name
    # No pipeline can be called so: their names have no dot.
    dag = scheduled_dag(
        f"{name}.retrain",
        schedule,
        catchup=False,  # feedback is taken as it is now: a week that was missed would learn from the same
        description=f"a candidate for {config.pipeline.model}, from what came of its decisions",
        doc_md=describe_retraining(file, config),
    )
    with dag:
        trained = [
            TrainingStep(task_id=step, step=step, pool=schedule.pool, **_how(file, schedule, jobs)) for step in _TRAINED
        ]
        promotion = Promotion(task_id="promote", step="promote", model=_model(config), **_how(file, schedule, jobs))
        chain = [
            _plan(str(file)),
            _snapshot(file, config, schedule, jobs),
            _enough(str(file), RUN_ID),
            *trained,
            promotion,
            _notify(str(file), RUN_ID),
        ]
        for one, next_ in pairwise(chain):
            one >> next_
    return dag


def _model(config: RetrainConfig) -> Asset:
    """What changes with a promotion, as other files' `airflow.after` calls it."""
    return Asset(f"{config.pipeline.name}.model", uri=config.pipeline.model)


def _how(file: Path, schedule: RetrainSchedule, jobs: Path) -> dict[str, Any]:
    return {
        "config_file": str(file),
        "run_id": RUN_ID,
        "job": str(jobs / "retrain.py"),
        "python": schedule.python,
        "processes": schedule.processes,
    }


def _snapshot(file: Path, config: RetrainConfig, schedule: RetrainSchedule, jobs: Path) -> SnapshotJob:
    return SnapshotJob(
        task_id="snapshot",
        config_file=str(file),
        run_id=RUN_ID,
        application=str(jobs / "retrain.py"),
        application_args=[str(file), "--run-id", RUN_ID, "--step", "snapshot"],
        conn_id=schedule.connection,
        name=f"{config.pipeline.name}.retrain.snapshot",
        # Airflow learns here of two assets that none of its tasks always writes.
        inlets=[asset(config.pipeline, "feedback"), _model(config)],
        **SnapshotJob.spark_settings(schedule.spark_conf),
    )


@task.short_circuit(task_id="plan", retries=0)
def _plan(file: str) -> bool:
    """Look whether there are signals enough, before anything is submitted. Too few skip the run."""
    from gliclass_spark.airflow.checks.retraining_checks import plan

    return plan(file)


@task.short_circuit(task_id="enough", retries=0)
def _enough(file: str, run: str) -> bool:
    """Look whether the snapshot holds decisions enough, before a GPU is taken. Too few skip the rest."""
    from gliclass_spark.airflow.checks.retraining_checks import enough

    return enough(file, run)


@task(task_id="notify")
def _notify(file: str, run: str) -> None:
    """Tell what the gate said, whether the candidate was promoted or refused."""
    from gliclass_spark.airflow.checks.retraining_checks import notify

    notify(file, run)
