"""A DAG for each pipeline file with an `airflow:` part. import_errors.py reports invalid files."""

import os
from pathlib import Path

from gliclass_spark.airflow.dags.dag_files import build_dags
from gliclass_spark.airflow.dags.pipeline_dag import pipeline_dag
from gliclass_spark.airflow.dags.pipeline_files import read_pipelines

ROOT = Path(__file__).resolve().parents[1]
pipelines = read_pipelines(os.environ.get("GLICLASS_PIPELINES", ROOT / "conf" / "pipelines"))
globals().update(build_dags(pipelines.scheduled, pipeline_dag).dags)
