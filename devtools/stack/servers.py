"""Servers of the stack, started in the order of their dependencies."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from devtools import local_airflow
from devtools.stack import postgres, prepare
from devtools.standalone_cluster import StandaloneCluster
from gliclass_spark.airflow.operators.process_group import ProcessGroup
from gliclass_spark.config.schedule import GPU_POOL

BUCKETS = ("lake", "mlflow")
USER = "stack"
_STORE_KEY = "stack"
_MLFLOW_USERS = """\
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{database}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


@dataclass(frozen=True)
class Stack:
    """The running stack. env: the environment of its clients. conf: the folder of its configuration."""

    env: Mapping[str, str]
    conf: Path
    cluster: StandaloneCluster
    database: postgres.Postgres


@contextmanager
def stack(root: Path, home: Path) -> Iterator[Stack]:
    """Run PostgreSQL, the object store, MLflow and Spark until the block ends. Raises StackError."""
    home.mkdir(parents=True, exist_ok=True)
    prepare.check_disk_space(home)
    passwords = prepare.passwords(home)
    jars = prepare.build(root, "jars.sh", home / "jars")
    mlflow = prepare.build(root, "servers.sh", home / "mlflow", "mlflow")
    store = prepare.build(root, "servers.sh", home / "store", "store")
    with (
        postgres.started(home / "postgres", passwords, home / "postgres.log") as database,
        _store(root, store, passwords["store"], home / "store.log") as endpoint,
        _mlflow(mlflow, database, passwords, _aws(endpoint, passwords["store"]), home) as tracking,
    ):
        env = {
            **_aws(endpoint, passwords["store"]),
            "MLFLOW_TRACKING_URI": tracking,
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": passwords["registry"],
            "GLICLASS_SPARK_CACHE": str(home / "models"),
        }
        folder = home / "spark"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)  # its files hold the secret
        login = {
            "spark.authenticate": "true",
            "spark.authenticate.secret": passwords["spark"],
            "spark.network.crypto.enabled": "true",
            "spark.ui.killEnabled": "false",
        }
        names = ",".join(str(jar) for jar in sorted(jars.glob("*.jar")))
        defaults = {"spark.jars": names, "spark.driver.host": "127.0.0.1", **login}
        (folder / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in defaults.items()))
        with StandaloneCluster(folder, worker_conf=login, env=env) as cluster:
            conf = prepare.configuration(root, home, cluster.master_url)
            yield Stack({**cluster.env, **env}, conf, cluster, database)


@contextmanager
def airflow(root: Path, home: Path, port: int, running: Stack) -> Iterator[local_airflow.LocalAirflow]:
    """Run Airflow as `make airflow` does, but on the stack's PostgreSQL and Spark."""
    running.database.add("airflow")
    env = {
        **local_airflow.environment(root, home / "airflow", port),
        **running.env,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": running.database.url("airflow"),
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
def _store(root: Path, environment: Path, secret: str, log: Path) -> Iterator[str]:
    """Run the object store, and yield its URL when it has its buckets."""
    port = prepare.free_port()
    program = [str(environment / "bin" / "python"), str(root / "docker" / "store" / "serve.py")]
    url = f"http://127.0.0.1:{port}"
    env = {**os.environ, **_aws(url, secret)}
    with ProcessGroup("the object store", [*program, "127.0.0.1", str(port), *BUCKETS], env=env, log=log) as process:
        process.wait_until_ready(lambda: _http_problem(f"{url}/health"), prepare.START_TIMEOUT_S)
        yield url


@contextmanager
def _mlflow(
    environment: Path, database: postgres.Postgres, passwords: Mapping[str, str], store: Mapping[str, str], home: Path
) -> Iterator[str]:
    """Run the MLflow server, and yield its URL."""
    database.add("mlflow")
    port = prepare.free_port()
    # Created anew, so that the administrator's password is the one of secrets.json.
    users = home / "mlflow_users.db"
    users.unlink(missing_ok=True)
    configuration = home / "mlflow_users.ini"
    configuration.write_text(_MLFLOW_USERS.format(database=users), encoding="utf-8")
    settings = {
        **os.environ,
        **store,
        "MLFLOW_BACKEND_STORE_URI": database.url("mlflow"),  # not on the command line, which other users can read
        "MLFLOW_S3_ENDPOINT_URL": store["AWS_ENDPOINT_URL"],
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": passwords["registry"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(24),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": str(port),
    }
    # Clients get artifacts through the server: only the server has the store's keys.
    command = [
        str(environment / "bin" / "mlflow"),
        "server",
        "--app-name",
        "basic-auth",
        "--artifacts-destination",
        "s3://mlflow",
        "--workers",
        "1",
    ]
    url = f"http://127.0.0.1:{port}"
    with ProcessGroup("MLflow", command, env=settings, log=home / "mlflow.log") as process:
        process.wait_until_ready(lambda: _http_problem(f"{url}/health"), prepare.START_TIMEOUT_S)
        yield url


def _http_problem(url: str) -> str | None:
    """Return why the URL does not answer with success, None if it does."""
    try:
        httpx.get(url, timeout=5).raise_for_status()
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    return None


def _aws(endpoint: str, secret: str) -> dict[str, str]:
    """Return the store's settings for Hadoop, delta-rs and boto."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": _STORE_KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
    }
