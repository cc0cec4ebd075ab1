"""The spark-submit entry points, run by spark-submit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession
from quick_spark import QUICK_SPARK
from stored_tables import stored_rows

from gliclass_spark.cli.app import main

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
DELTA = f"io.delta:delta-spark_4.2_2.13:{version('delta-spark')}"


def submit(job: str, pipeline: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("spark-submit")
    settings = [f"--conf={name}={value}" for name, value in QUICK_SPARK.items()]
    options = ["--master", "local[2]", *settings, "--packages", DELTA]
    command = [program, *options, ROOT / "jobs" / f"{job}.py", pipeline, *arguments]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment, timeout=500)


@pytest.fixture
def pipeline(tmp_path: Path, tiny_bi_encoder: str) -> Path:
    (tmp_path / "mail.json").write_text('{"id": 1, "body": "a lake of data"}\n{"id": 2, "body": "short"}\n')
    document = {
        "name": "mail",
        "source": {"path": "mail.json", "format": "json", "id": "id", "text": "body"},
        "label_set": ["spam", "lake"],
        "model": tiny_bi_encoder,
        "tables": "lake",
        "reject": [{"reason": "too_short", "when": "token_count < 3"}],
    }
    (tmp_path / "mail.yaml").write_text(yaml.safe_dump(document))
    return tmp_path / "mail.yaml"


def test_a_submitted_job_and_the_commands_of_later_steps_share_a_run(spark: SparkSession, pipeline: Path) -> None:
    done = submit("tag", pipeline, "--run-id", "run-1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["tagged"] == 2
    for job in ("filter", "route"):
        assert main([job, str(pipeline), "--run-id", "run-1"]) == 0
    rows = stored_rows(pipeline.parent / "lake" / "runs", "status != 'running'")
    assert {(row["run_id"], row["job"], row["status"]) for row in rows} == {
        ("run-1", job, "succeeded") for job in ("tag", "filter", "route")
    }
    routed = stored_rows(pipeline.parent / "lake" / "unrouted")
    assert [(row["doc_id"], row["run_id"]) for row in routed] == [("1", "run-1")]


def test_a_job_that_cannot_run_exits_with_2_and_one_line(pipeline: Path) -> None:
    done = submit("filter", pipeline)
    assert done.returncode == 2
    # spark-submit writes both of a program's streams to its standard output.
    [line] = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert "the last tag job did not use label set 'mail' as it is now" in line
    assert "run the tag job first" in line
