"""A DAG for each file of conf/retrain with an `airflow:` part. import_errors.py reports invalid files."""

from pathlib import Path

from gliclass_spark.airflow.dags.dag_files import build_dags
from gliclass_spark.airflow.dags.retraining_dag import retrain_dag
from gliclass_spark.airflow.dags.retraining_files import read_retrainings

ROOT = Path(__file__).resolve().parents[1]
globals().update(build_dags(read_retrainings(ROOT).configs, retrain_dag).dags)
