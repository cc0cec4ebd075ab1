"""A DAG for each pipeline file that has an `airflow:` part. What is wrong with a file, refused.py says."""

import os
from pathlib import Path

from gliclass_spark.airflow.dags.pipeline_dag import pipeline_dag
from gliclass_spark.airflow.dags.pipeline_files import read_pipelines

ROOT = Path(__file__).resolve().parents[1]
found = read_pipelines(os.environ.get("GLICLASS_PIPELINES", ROOT / "conf" / "pipelines"))
globals().update(
    {pipeline.name: pipeline_dag(file, pipeline, ROOT / "jobs") for file, pipeline in found.scheduled.items()}
)
