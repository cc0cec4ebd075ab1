"""Airflow's environment, with a temporary home. Set before the first import of Airflow, which reads it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from retraining_files import RUN, write_pipeline, write_retraining

from gliclass_spark.config.retraining import RetrainConfig

_home = tempfile.TemporaryDirectory(prefix="airflow")  # removed with this process
os.environ["AIRFLOW_HOME"] = _home.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW_CONN_SPARK_DEFAULT"] = '{"conn_type": "spark", "host": "local[2]"}'


@pytest.fixture(scope="session")
def airflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow's database after its migration, which takes seconds: a template to copy into the home of an Airflow."""
    home = tmp_path_factory.mktemp("airflow_database")
    environment = {**os.environ, "AIRFLOW_HOME": str(home)}
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=environment, check=True)
    return home / "airflow.db"


@pytest.fixture
def retraining_file(tmp_path: Path) -> Path:
    """The file of a retraining, beside its pipeline's."""
    write_pipeline(tmp_path)
    return write_retraining(tmp_path)


@pytest.fixture
def run_folder(retraining_file: Path) -> Path:
    """The folder of the retraining `RUN`, with one for its snapshot."""
    folder = RetrainConfig.from_yaml(retraining_file).run_folder(RUN)
    (folder / "snapshot").mkdir(parents=True)
    return folder
