"""Local Airflow with the project's DAGs: `make airflow`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from gliclass_spark.airflow.operators.process_group import ProcessGroup
from gliclass_spark.config.schedule import GPU_POOL
from gliclass_spark.demo.package_documents import write_documents
from gliclass_spark.errors import GliclassSparkError

_START_TIMEOUT_S = 300
_STOP_GRACE_S = 30
_PASSWORDS = "simple_auth_manager_passwords.json.generated"


def environment(root: Path, home: Path, port: int) -> dict[str, str]:
    """Return Airflow's environment: a SQLite database in `home`, the DAGs of `root`, Spark on this machine.

    Connections and the pipelines' folder that the current environment sets are kept.
    """
    url = f"http://127.0.0.1:{port}"
    defaults = {
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[*]"}),
        "GLICLASS_PIPELINES": str(root / "conf" / "pipelines"),
    }
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        # The default of tasks is port 8080, whatever the server's port is.
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",  # the default is every interface
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        # spark-submit, and the Python that it starts, are those of this environment.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    return {**defaults, **os.environ, **settings}


@dataclass(frozen=True)
class LocalAirflow:
    """A running `airflow standalone`: its processes, environment and log."""

    process: ProcessGroup
    env: Mapping[str, str]
    log: Path

    @property
    def url(self) -> str:
        return self.env["AIRFLOW__API__BASE_URL"]

    @property
    def password(self) -> str:
        """The password of `admin`, which Airflow generates at its first start in a home."""
        file = Path(self.env["AIRFLOW_HOME"]) / _PASSWORDS
        return str(json.loads(file.read_text(encoding="utf-8"))["admin"])

    def wait_until_ready(self) -> None:
        """Wait until all components are healthy. Raises StackError if they are not within five minutes."""
        self.process.wait_until_ready(self._problem, _START_TIMEOUT_S)

    def add_pool(self, name: str, slots: int) -> None:
        """Add a pool; an existing one keeps its slots. A task whose pool is missing is never scheduled."""
        with httpx.Client(base_url=self.url, timeout=60) as api:
            credentials = {"username": "admin", "password": self.password}
            token = api.post("/auth/token", json=credentials).raise_for_status().json()["access_token"]
            api.headers["Authorization"] = f"Bearer {token}"
            response = api.post("/api/v2/pools", json={"name": name, "slots": slots})
            if response.status_code != httpx.codes.CONFLICT:
                response.raise_for_status()

    def _problem(self) -> str | None:
        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).raise_for_status().json()
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__
        components = ("metadatabase", "scheduler", "dag_processor")
        unhealthy = [name for name in components if health[name]["status"] != "healthy"]
        return f"{', '.join(unhealthy)}: not healthy" if unhealthy else None


@contextmanager
def started(env: Mapping[str, str], log: Path) -> Iterator[LocalAirflow]:
    """Run Airflow until the block ends, then end all of its processes."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "airflow", "standalone"]
    with ProcessGroup("Airflow", command, env=env, log=log, stop=signal.SIGINT, grace_s=_STOP_GRACE_S) as process:
        yield LocalAirflow(process, env, log)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the folder that holds dags/, jobs/ and conf/")
    options = parser.parse_args(argv)
    root = options.root.absolute()
    home = root / ".airflow"
    write_documents(str(root / "lake" / "documents"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log = home / "standalone.log"
    print(f"Starting Airflow (about half a minute); its log is {log}", flush=True)
    try:
        with started(environment(root, home, options.port), log) as airflow:
            airflow.wait_until_ready()
            airflow.add_pool(GPU_POOL, slots=1)
            print(f"Airflow:  {airflow.url}\nLog in as admin, with the password {airflow.password}")
            print("Trigger a DAG; the page of its run has the tab Report. Ctrl-C stops Airflow.", flush=True)
            return airflow.process.wait()
    except KeyboardInterrupt:
        print("stopped")
        return 0
    except GliclassSparkError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
