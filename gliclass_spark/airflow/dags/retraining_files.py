"""The files of conf/retrain that become DAGs: those that can, and what is wrong with the others."""

from __future__ import annotations

import os
from pathlib import Path

from gliclass_spark.airflow import alerts
from gliclass_spark.airflow.dags.dag_files import Files, read_files
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.config.spark import read_conf

_FOLDER = "GLICLASS_RETRAIN"


def read_retrainings(root: Path) -> Files[RetrainConfig]:
    """Those with an `airflow:` part of conf/retrain under the root, or of the folder that GLICLASS_RETRAIN names.

    A file that is wrong, or whose pipeline another one with an `airflow:` part retrains, is refused alone.
    conf/retrain need not be there: then nothing is retrained. Raises ConfigError if GLICLASS_RETRAIN names no
    folder.
    """
    named = os.environ.get(_FOLDER)
    folder = Path(named or root / "conf" / "retrain")
    if not named and not folder.is_dir():
        return Files()
    taken = "pipeline: Airflow retrains {name!r} by {first} already; remove the 'airflow' part of one"
    found = read_files(folder, _checked, _retrained, taken, _FOLDER)
    return Files({file: config for file, config in found.read.items() if config.airflow is not None}, found.refused)


def _checked(file: Path) -> RetrainConfig:
    config = RetrainConfig.from_yaml(file)
    if config.airflow is not None:
        read_conf(config.airflow.spark_conf)
        alerts.check(config.airflow.alerts, str(file))
    return config


def _retrained(config: RetrainConfig) -> str | None:
    return config.pipeline.name if config.airflow is not None else None
