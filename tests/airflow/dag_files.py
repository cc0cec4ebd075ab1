"""The project's DAG files, parsed as Airflow does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag

ROOT = Path(__file__).parents[2]
HEAVY = {"pyspark", "torch", "transformers", "pandas", "matplotlib", "deltalake", "mlflow"}
_PARSE = """
import json, runpy, sys, time
import airflow.sdk
started = time.perf_counter()
variables = {name: value for file in sys.argv[1:] for name, value in runpy.run_path(file).items()}
dags = [name for name, value in variables.items() if isinstance(value, airflow.sdk.DAG)]
print(json.dumps({"seconds": time.perf_counter() - started, "dags": dags, "modules": sorted(sys.modules)}))
"""


def parse(*files: str, **variables: str) -> dict[str, Any]:
    """Parse files in a fresh process; return the seconds, the ids of their DAGs, and all loaded modules."""
    command = [sys.executable, "-c", _PARSE, *(str(ROOT / "dags" / f"{file}.py") for file in files)]
    env = {**os.environ, **variables}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env=env)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def dag_bag() -> DagBag:
    """Parse all DAG files in the current environment."""
    bag = DagBag(ROOT / "dags", bundle_path=ROOT / "dags", bundle_name="dags")
    bag.collect_dags(safe_mode=True)
    return bag
