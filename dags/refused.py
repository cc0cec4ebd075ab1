"""No DAG: where a pipeline file is wrong, this file is Airflow's import error that says so, by file and key.

The DAGs of the other files stand in pipelines.py, which Airflow would otherwise take down with it.
"""

import os
from pathlib import Path

from gliclass_spark.airflow.pipelines import read_pipelines
from gliclass_spark.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
refused = read_pipelines(os.environ.get("GLICLASS_PIPELINES", ROOT / "conf" / "pipelines")).refused
if refused:
    raise ConfigError("\n".join(refused))
