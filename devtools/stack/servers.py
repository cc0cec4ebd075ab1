"""The servers of the stack, each started when the ones that it needs answer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from devtools import local_airflow
from devtools.stack import postgres, prepare
from devtools.stack.service import Service, free_port, started
from devtools.standalone_cluster import StandaloneCluster
from gliclass_spark.config.schedule import GPU_POOL

BUCKETS = ("lake", "mlflow")


@dataclass(frozen=True)
class Stack:
    """The stack at work. env: what a process is told that is to use it. conf: the folder of its files."""

    env: Mapping[str, str]
    conf: Path
    cluster: StandaloneCluster
    database: postgres.Postgres


@contextmanager
def stack(root: Path, home: Path) -> Iterator[Stack]:
    """PostgreSQL, the store, MLflow and Spark, until the block ends. Raises StackError."""
    home.mkdir(parents=True, exist_ok=True)
    prepare.check_room(home)
    known = prepare.passwords(home)
    jars = prepare.built(root, "jars.sh", home / "jars")
    mlflow = prepare.built(root, "servers.sh", home / "mlflow", "mlflow")
    store = prepare.built(root, "servers.sh", home / "store", "store")
    with (
        postgres.started(home / "postgres", known, home / "postgres.log") as database,
        _store(root, store, home / "store.log") as endpoint,
        _mlflow(mlflow, database, {**os.environ, **_aws(endpoint)}, home / "mlflow.log") as tracking,
    ):
        env = {**_aws(endpoint), "MLFLOW_TRACKING_URI": tracking, "GLICLASS_SPARK_CACHE": str(home / "models")}
        folder = home / "spark"
        folder.mkdir(exist_ok=True)
        names = ",".join(str(jar) for jar in sorted(jars.glob("*.jar")))
        (folder / "spark-defaults.conf").write_text(f"spark.jars {names}\nspark.driver.host 127.0.0.1\n")
        with StandaloneCluster(folder, env=env) as cluster:
            conf = prepare.configuration(root, home, cluster.master_url)
            yield Stack({**cluster.env, **env}, conf, cluster, database)


@contextmanager
def airflow(root: Path, home: Path, port: int, running: Stack) -> Iterator[local_airflow.LocalAirflow]:
    """Airflow on the stack's PostgreSQL, its jobs on the stack's Spark; otherwise as `make airflow` has it."""
    running.database.add("airflow")
    env = {
        **local_airflow.environment(root, home / "airflow", port),
        **running.env,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": running.database.address("airflow"),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": running.cluster.master_url}),
        "GLICLASS_PIPELINES": str(running.conf / "pipelines"),
        "GLICLASS_RETRAIN": str(running.conf / "retrain"),
    }
    env["PATH"] = local_airflow.environment(root, home / "airflow", port)["PATH"]
    with local_airflow.started(env, home / "airflow.log") as started_airflow:
        started_airflow.wait_until_ready()
        started_airflow.add_pool(GPU_POOL, slots=1)
        yield started_airflow


@contextmanager
def _store(root: Path, environment: Path, log: Path) -> Iterator[str]:
    """Gives its address, as soon as it has its buckets."""
    port = free_port()
    program = [str(environment / "bin" / "python"), str(root / "docker" / "store" / "serve.py")]
    service = Service("the store", [*program, "127.0.0.1", str(port), *BUCKETS], dict(os.environ), log)
    address = f"http://127.0.0.1:{port}"
    with started(service, lambda: _silent(f"{address}/{BUCKETS[-1]}")):
        yield address


@contextmanager
def _mlflow(environment: Path, database: postgres.Postgres, env: Mapping[str, str], log: Path) -> Iterator[str]:
    database.add("mlflow")
    port = free_port()
    told = {
        **env,
        "MLFLOW_BACKEND_STORE_URI": database.address("mlflow"),  # not on the command line, which others can read
        "MLFLOW_S3_ENDPOINT_URL": env["AWS_ENDPOINT_URL"],
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": str(port),
    }
    # Clients ask the server for files: only the server knows the store's keys.
    command = [
        str(environment / "bin" / "mlflow"),
        "server",
        "--artifacts-destination",
        "s3://mlflow",
        "--workers",
        "1",
    ]
    address = f"http://127.0.0.1:{port}"
    with started(Service("MLflow", command, told, log), lambda: _silent(f"{address}/health")):
        yield address


def _silent(address: str) -> str | None:
    try:
        httpx.get(address, timeout=5).raise_for_status()
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    return None


def _aws(endpoint: str) -> dict[str, str]:
    """What Hadoop, delta-rs and boto are told of the store."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_REGION": "us-east-1",
    }
