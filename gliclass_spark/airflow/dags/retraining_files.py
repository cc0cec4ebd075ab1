"""Retraining files: the retrainings that Airflow schedules, and the errors of invalid files."""

from __future__ import annotations

import os
from pathlib import Path

from gliclass_spark.airflow.alerts import check_providers
from gliclass_spark.airflow.dags.dag_files import Files, read_files
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.config.spark import read_conf

_FOLDER = "GLICLASS_RETRAIN"


def read_retrainings(root: Path) -> Files[RetrainConfig]:
    """Read the scheduled files of the folder that GLICLASS_RETRAIN names, conf/retrain under the root by default.

    An invalid file, or a second scheduled one for the same pipeline, does not affect others. Without the variable
    and without conf/retrain there are none. Raises ConfigError if the folder of GLICLASS_RETRAIN does not exist.
    """
    variable = os.environ.get(_FOLDER)
    folder = Path(variable or root / "conf" / "retrain")
    if not variable and not folder.is_dir():
        return Files()
    duplicate_error = "pipeline: Airflow retrains {key!r} by {first} already; remove the 'airflow' part of one"
    files = read_files(folder, _read, _scheduled_pipeline, duplicate_error, _FOLDER)
    scheduled = {path: config for path, config in files.configs.items() if config.airflow is not None}
    return Files(scheduled, files.errors)


def _read(path: Path) -> RetrainConfig:
    config = RetrainConfig.from_yaml(path)
    if config.airflow is not None:
        read_conf(config.airflow.spark_conf)
        check_providers(config.airflow.alerts, str(path))
    return config


def _scheduled_pipeline(config: RetrainConfig) -> str | None:
    return config.pipeline.name if config.airflow is not None else None
