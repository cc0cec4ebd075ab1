"""A DAG for each file of conf/retrain with an `airflow:` part. import_errors.py reports invalid files."""

from pathlib import Path

from gliclass_spark.airflow.dags.retraining_dag import retrain_dag
from gliclass_spark.airflow.dags.retraining_files import read_retrainings

ROOT = Path(__file__).resolve().parents[1]
dags = [retrain_dag(file, config, ROOT / "jobs") for file, config in read_retrainings(ROOT).configs.items()]
globals().update({dag.dag_id: dag for dag in dags})
