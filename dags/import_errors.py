"""Airflow's import error for invalid files of conf/pipelines and conf/retrain, by file and key. It holds no DAG.

The DAGs of the valid files are in pipelines.py and retraining.py: an error there would remove them all.
"""

import os
from pathlib import Path

from gliclass_spark.airflow.dags.dag_files import build_dags
from gliclass_spark.airflow.dags.pipeline_dag import pipeline_dag
from gliclass_spark.airflow.dags.pipeline_files import read_pipelines
from gliclass_spark.airflow.dags.retraining_dag import retrain_dag
from gliclass_spark.airflow.dags.retraining_files import read_retrainings
from gliclass_spark.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
pipelines = read_pipelines(os.environ.get("GLICLASS_PIPELINES", ROOT / "conf" / "pipelines"))
retrainings = read_retrainings(ROOT)
errors = [
    *pipelines.errors,
    *build_dags(pipelines.scheduled, pipeline_dag).errors,
    *retrainings.errors,
    *build_dags(retrainings.configs, retrain_dag).errors,
]
if errors:
    raise ConfigError("\n".join(errors))
