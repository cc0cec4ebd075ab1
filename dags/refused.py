"""No DAG: where a file of conf/pipelines or conf/retrain is wrong, this is Airflow's import error, by file and key.

The DAGs of the other files stand in pipelines.py and retraining.py, which Airflow would otherwise take down with it.
"""

import os
from pathlib import Path

from gliclass_spark.airflow.dags.pipeline_files import read_pipelines
from gliclass_spark.airflow.dags.retraining_files import read_retrainings
from gliclass_spark.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
pipelines = read_pipelines(os.environ.get("GLICLASS_PIPELINES", ROOT / "conf" / "pipelines"))
refused = [*pipelines.refused, *read_retrainings(ROOT).refused]
if refused:
    raise ConfigError("\n".join(refused))
