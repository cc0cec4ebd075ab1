"""Airflow on this machine, with the project's DAGs: `make airflow`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from gliclass_spark.config.schedule import GPU_POOL
from gliclass_spark.demo.package_documents import write_documents

_STARTS_S = 300
_STOPS_S = 30
_PASSWORDS = "simple_auth_manager_passwords.json.generated"


def environment(root: Path, home: Path, port: int) -> dict[str, str]:
    """What Airflow's processes are told: a sqlite database in `home`, the DAGs of `root`, Spark on this machine.

    Of what the environment says already, connections and the folder of the pipelines stay as they are.
    """
    address = f"http://127.0.0.1:{port}"
    defaults = {
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[*]"}),
        "GLICLASS_PIPELINES": str(root / "conf" / "pipelines"),
    }
    told = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        # Tasks call home here; on another port than 8080 they would not find it by themselves.
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",  # the default is every interface
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        # spark-submit, and the Python that it starts, are those of this environment.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    return {**defaults, **os.environ, **told}


@dataclass(frozen=True)
class LocalAirflow:
    """`airflow standalone` at work: its process, what it was told, and where it says more."""

    process: subprocess.Popen[bytes]
    env: Mapping[str, str]
    log: Path

    @property
    def address(self) -> str:
        return self.env["AIRFLOW__API__BASE_URL"]

    @property
    def password(self) -> str:
        """The password of `admin`, which Airflow made up when it first started in its folder."""
        file = Path(self.env["AIRFLOW_HOME"]) / _PASSWORDS
        return str(json.loads(file.read_text(encoding="utf-8"))["admin"])

    def wait_until_ready(self) -> None:
        """Raises RuntimeError, with the end of the log, if it does not come up."""
        until = time.monotonic() + _STARTS_S
        while time.monotonic() < until and self.process.poll() is None:
            if self._healthy():
                return
            time.sleep(1)
        raise RuntimeError(f"Airflow did not start; {self.log} ends with:\n{self.log.read_text()[-2000:]}")

    def add_pool(self, name: str, slots: int) -> None:
        """Without its pool a task waits for ever. One that is there already stays as it is."""
        with httpx.Client(base_url=self.address, timeout=60) as api:
            told = api.post("/auth/token", json={"username": "admin", "password": self.password}).raise_for_status()
            api.headers["Authorization"] = f"Bearer {told.json()['access_token']}"
            answer = api.post("/api/v2/pools", json={"name": name, "slots": slots})
            if answer.status_code != httpx.codes.CONFLICT:
                answer.raise_for_status()

    def _healthy(self) -> bool:
        try:
            parts = httpx.get(f"{self.address}/api/v2/monitor/health", timeout=5).raise_for_status().json()
        except httpx.HTTPError:
            return False
        return all(parts[name]["status"] == "healthy" for name in ("metadatabase", "scheduler", "dag_processor"))


@contextmanager
def started(env: Mapping[str, str], log: Path) -> Iterator[LocalAirflow]:
    """Airflow, until the block ends; nothing that it started is left behind."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        command = [sys.executable, "-m", "airflow", "standalone"]
        process = subprocess.Popen(  # noqa: S603 - a list of our own
            command, stdout=file, stderr=file, env=dict(env), start_new_session=True
        )
    try:
        yield LocalAirflow(process, env, log)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOPS_S)
    except subprocess.TimeoutExpired:
        process.kill()
    _, left = psutil.wait_procs(children, timeout=3)
    for each in left:
        each.kill()
    psutil.wait_procs(left, timeout=3)


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
    print(f"Starting Airflow (half a minute or so); it says more in {log}", flush=True)
    try:
        with started(environment(root, home, options.port), log) as airflow:
            airflow.wait_until_ready()
            airflow.add_pool(GPU_POOL, slots=1)
            print(f"Airflow:  {airflow.address}\nLog in as admin, with the password {airflow.password}")
            print("Choose a DAG, and trigger it. A run's page has the tab Report. Ctrl-C ends Airflow.", flush=True)
            return airflow.process.wait()
    except KeyboardInterrupt:
        print("stopped")
        return 0


if __name__ == "__main__":
    sys.exit(main())
