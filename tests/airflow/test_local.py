"""Airflow as `make airflow` starts it: backfills during which a job and the scheduler are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from pyspark.sql import SparkSession
from quick_spark import QUICK_SPARK

from devtools.local_airflow import LocalAirflow, environment, started
from devtools.stack.prepare import free_port
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs import history
from gliclass_spark.runs.delta_reader import delta_table, query
from gliclass_spark.spark.jobs import STEPS, PipelineRun

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
WAIT_S = 900
# Each answer takes Airflow's server a part of a second, on the processors that the jobs need.
POLL_API_S = 2
# Within the last week: Delta keeps older versions of a table for that long only.
FIRST = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=5)


def midnight(day: int) -> datetime:
    return FIRST + timedelta(days=day)


def write_days(folder: Path, days: int) -> None:
    """Write the documents of some days, each committed at noon of its day."""
    for day in range(days):
        ids = [f"{day}-{number}" for number in range(20)]
        texts = [f"document {name} of a lake" + (" to buy" if number % 3 else "") for number, name in enumerate(ids)]
        rows = pa.table({"id": ids, "body": texts})
        write_deltalake(str(folder / "mail"), rows, mode="append", configuration={"delta.enableChangeDataFeed": "true"})
        noon = midnight(day).timestamp() + 12 * 3600
        os.utime(folder / "mail" / "_delta_log" / f"{day:020}.json", (noon, noon))


SCHEDULE = {"start": FIRST.date(), "retries": 5, "retry_delay_s": 1, "spark_conf": "../quick.yaml"}


def write_pipeline(folder: Path, name: str, model: str, days: int, **parts: Any) -> Path:
    document = {
        "name": name,
        "source": {"path": "../mail", "id": "id", "text": "body"},
        "label_set": {"name": "topics", "labels": ["spam", "lake"]},
        "model": model,
        "tables": f"../lake_{name}",
        "reject": [{"reason": "even", "when": "id like '%2'"}],
        "routes": [{"route": "shop", "when": "body like '%buy%'"}],
        "airflow": {**SCHEDULE, "cron": f"0 0 {','.join(str(midnight(day).day) for day in range(1, days + 1))} * *"},
        **parts,
    }
    folder.mkdir(exist_ok=True)
    (folder.parent / "quick.yaml").write_text(yaml.safe_dump(QUICK_SPARK))
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(document))
    return folder / f"{name}.yaml"


def logged_in(airflow: LocalAirflow) -> httpx.Client:
    """Return a client of Airflow's REST API, logged in as `admin`."""
    client = httpx.Client(base_url=airflow.url, timeout=60)
    token = client.post("/auth/token", json={"username": "admin", "password": airflow.password}).raise_for_status()
    client.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
    return client


def states(api: httpx.Client, dag: str) -> dict[str, str]:
    """Return the states of a DAG's runs, by run id."""
    runs = api.get(f"/api/v2/dags/{dag}/dagRuns").raise_for_status().json()["dag_runs"]
    return {run["dag_run_id"]: run["state"] for run in runs}


def all_finished(api: httpx.Client, dag: str) -> bool:
    """Return whether the DAG has runs, and all of them have finished."""
    run_states = set(states(api, dag).values())
    return bool(run_states) and run_states.isdisjoint({"running", "queued"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="module")
def days(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--runs"))


@pytest.fixture(scope="module")
def airflow(
    folder: Path, tiny_bi_encoder: str, days: int, airflow_database: Path, quick_java: None
) -> Iterator[LocalAirflow]:
    write_days(folder, days)
    write_pipeline(folder / "pipelines", "mail", tiny_bi_encoder, days)
    shop = {
        "source": {"path": "../lake_mail/shop", "id": "doc_id", "text": "body", "columns": []},
        "airflow": {**SCHEDULE, "after": ["mail.shop"]},
    }
    write_pipeline(folder / "pipelines", "shop", tiny_bi_encoder, days, steps=["tag"], reject=[], routes=[], **shop)
    home = folder / "home"
    home.mkdir()
    shutil.copy(airflow_database, home)
    env = {
        **environment(ROOT, home, free_port()),
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
        "GLICLASS_PIPELINES": str(folder / "pipelines"),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "300",  # all pipelines exist before the start
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    }
    with started(env, home / "standalone.log") as running:
        running.wait_until_ready()
        yield running
        # It would wait for the output of the killed scheduler, which that one's children hold open.
        running.process.kill()


def test_a_missing_pool_is_added_and_an_existing_one_keeps_its_slots(airflow: LocalAirflow) -> None:
    airflow.add_pool("gpu", 1)
    airflow.add_pool("gpu", 3)
    assert logged_in(airflow).get("/api/v2/pools/gpu").raise_for_status().json()["slots"] == 1


@pytest.mark.timeout(1200)
def test_promise_4_a_backfill_with_kills_gives_the_tables_of_uninterrupted_runs(
    airflow: LocalAirflow, folder: Path, tiny_bi_encoder: str, days: int, spark: SparkSession
) -> None:
    backfilled, downstream = (Pipeline.from_yaml(folder / "pipelines" / f"{name}.yaml") for name in ("mail", "shop"))
    api = logged_in(airflow)
    wait_for(lambda: api.get("/api/v2/dags/mail").status_code == 200, airflow)
    window = {"from_date": midnight(1).isoformat(), "to_date": midnight(days).isoformat()}
    backfill = {"dag_id": "mail", "max_active_runs": 1, **window}
    assert api.post("/api/v2/backfills", json=backfill).status_code == 200
    for dag in ("shop", "mail"):
        api.patch(f"/api/v2/dags/{dag}", json={"is_paused": False}).raise_for_status()

    wait_for(lambda: job_pids(airflow, "tag"), airflow)
    time.sleep(5)
    for pid in job_pids(airflow, "tag"):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: job_pids(airflow, "filter"), airflow)
    with another_scheduler(airflow):
        wait_for(lambda: all_finished(api, "mail"), airflow, POLL_API_S)
        # The rows routed to `shop` trigger the downstream pipeline.
        wait_for(
            lambda: all_finished(api, "shop") and ids(downstream, "tags") == ids(backfilled, "shop"),
            airflow,
            POLL_API_S,
        )
    assert list(states(api, "mail").values()) == ["success"] * days
    assert set(states(api, "shop").values()) == {"success"}

    expected = Pipeline.from_yaml(write_pipeline(folder / "single", "single", tiny_bi_encoder, days))
    for day in range(1, days + 1):
        for step in expected.steps:
            STEPS[step](PipelineRun(spark, expected, f"day-{day}", until=midnight(day)))
    for table in ("tags", "kept", "rejected", "quarantined", "shop", "unrouted"):
        assert rows(backfilled, table) == rows(expected, table), table
    assert run_counts(backfilled) == run_counts(expected)
    first_run = [(job, rows_in) for job, rows_in, *_ in run_counts(backfilled)][:3]
    assert first_run == [("tag", 20), ("filter", 20), ("route", 18)]

    last = f"/gliclass/report/mail/{quote(sorted(states(api, 'mail'))[-1])}"
    assert "20 documents in" in api.get(last).raise_for_status().text
    assert httpx.get(airflow.url + last).status_code == 401


def rows(pipeline: Pipeline, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table without run id and time, with scores rounded to four digits."""
    table_rows = query(delta_table(f"{pipeline.tables}/{table}"), "select * from t order by doc_id")
    for row in table_rows:
        for name in ("run_id", "tagged_at"):
            row.pop(name, None)
        row["scores"] = {label: round(score, 4) for label, score in row["scores"].items()}
    return table_rows


def ids(pipeline: Pipeline, table: str) -> set[str]:
    """Return the ids of a table's documents."""
    return {row["doc_id"] for row in query(delta_table(f"{pipeline.tables}/{table}"), "select doc_id from t")}


def run_counts(pipeline: Pipeline) -> list[tuple[Any, ...]]:
    """Return the counts of each run's jobs, oldest first."""
    succeeded = [row for row in history.read_manifests(pipeline) if row.status == "succeeded"][::-1]
    return [(row.job, row.rows_in, row.documents, row.kept, row.rejected, row.routed) for row in succeeded]


def wait_for(condition: Any, airflow: LocalAirflow, poll_s: float = 0.5) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, airflow.log.read_text(errors="replace")[-5000:]
        time.sleep(poll_s)


def job_pids(airflow: LocalAirflow, job: str) -> list[int]:
    """Return the processes of a submitted job: spark-submit's JVM and the driver's Python."""
    pids = []
    for process in psutil.process_iter():
        try:
            if (
                f"spark_application.py {job} " in " ".join(process.cmdline())
                and process.environ().get("AIRFLOW_HOME") == airflow.env["AIRFLOW_HOME"]
            ):
                pids.append(process.pid)
        except psutil.Error:
            continue
    return pids


@contextmanager
def another_scheduler(airflow: LocalAirflow) -> Iterator[None]:
    """Kill the scheduler while a job runs, and start another, as a supervisor would."""
    for process in psutil.Process(airflow.process.pid).children(recursive=True):
        with suppress(psutil.Error):  # one that has just ended
            command = " ".join(process.cmdline())
            if command.endswith("airflow scheduler") or "airflow scheduler" in process.name():
                process.kill()
    with airflow.log.open("ab") as log:
        command = [sys.executable, "-m", "airflow", "scheduler"]
        scheduler = subprocess.Popen(command, stdout=log, stderr=log, env=dict(airflow.env))
    try:
        yield
    finally:
        scheduler.terminate()
        scheduler.wait(30)
