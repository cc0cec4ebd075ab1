"""The project's DAG files, as Airflow reads them."""

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
found = runpy.run_path(sys.argv[1])
dags = [name for name, value in found.items() if isinstance(value, airflow.sdk.DAG)]
print(json.dumps({"seconds": time.perf_counter() - started, "dags": dags, "modules": sorted(sys.modules)}))
"""


def parsed(file: str, **variables: str) -> dict[str, Any]:
    """What a file alone gives in a fresh process: seconds, the ids of its dags, and all modules that are loaded."""
    command = [sys.executable, "-c", _PARSE, str(ROOT / "dags" / f"{file}.py")]
    env = {**os.environ, **variables}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env=env)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def dag_bag() -> DagBag:
    """All of them, with the environment as it is."""
    bag = DagBag(ROOT / "dags", bundle_path=ROOT / "dags", bundle_name="dags")
    bag.collect_dags(safe_mode=True)
    return bag
