"""A retraining run by Airflow, from signals to a new champion and its alert."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession
from quick_spark import QUICK_SPARK
from retraining_files import write_pipeline, write_retraining
from slack_api import slack

from devtools.local_airflow import environment
from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.cli.app import main
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.retraining import RETRAINING_STEPS, RetrainConfig
from gliclass_spark.spark.jobs import PipelineRun, tag_step

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "supervised": {"steps": 2, "texts": 4, "max_text_tokens": 16},
    "ppo": {"steps": 2, "texts": 4, "epochs": 1, "max_text_tokens": 16},
    # Two steps on random weights: the quality does not matter here.
    "gate": {
        "max_f1_loss": 1.0,
        "max_label_loss": 1.0,
        "max_reward_loss": 1.0,
        "max_calibration_loss": 1.0,
        "max_slowdown": 1e6,
    },
    "airflow": {"after": ["mail.feedback"], "retries": 0, "spark_conf": "../quick.yaml", "alerts": {"slack": "#mail"}},
}

# In one process: to import Airflow takes longer than the first command.
AIRFLOW = """
import sys
from airflow.__main__ import main

for command in (["dags", "reserialize"], ["dags", "test", "mail.retrain"]):
    sys.argv = ["airflow", *command]
    main()
"""


def write_golden(folder: Path) -> None:
    rows = [
        {"text": f"golden text {number} of a lake", "labels": [["spam", "lake"][number % 2]]} for number in range(8)
    ]
    (folder / "golden.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_feedback(spark: SparkSession, pipeline: Path) -> None:
    """Tag documents, and write a verdict on each."""
    folder = pipeline.parent
    texts = [(f"d-{number}", f"document number {number} speaks of a lake") for number in range(24)]
    spark.createDataFrame(texts, "id string, body string").write.format("delta").save(str(folder / "mail"))
    tag_step(PipelineRun(spark, Pipeline.from_yaml(pipeline), "run-1"))
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    signals = [
        {"doc_id": name, "label": "lake", "verdict": verdict, "source": "ui", "observed_at": later}
        for (name, _), verdict in zip(texts, ["accepted", "rejected"] * 12, strict=True)
    ]
    (folder / "signals.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in signals))
    assert main(["feedback", str(pipeline), str(folder / "signals.jsonl")]) == 0


@pytest.mark.timeout(1200)
def test_feedback_becomes_a_new_champion_and_its_verdict_is_sent(
    spark: SparkSession,
    tiny_bi_encoder: str,
    tmp_path: Path,
    airflow_database: Path,
    registry_database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "airflow").mkdir()
    shutil.copy(airflow_database, tmp_path / "airflow")
    shutil.copy(registry_database, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("GLICLASS_RETRAIN", str(tmp_path / "retrain"))
    registry = Registry()
    with registry.run("mail", "first", {}) as first:
        champion = registry.promote("mail", str(registry.register("mail", Path(tiny_bi_encoder), first.run_id).number))
    # Spark's workers were started before, with another registry.
    write_feedback(spark, write_pipeline(tmp_path, tiny_bi_encoder))
    write_pipeline(tmp_path)
    write_golden(tmp_path)
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(QUICK_SPARK))
    retraining = write_retraining(tmp_path, **TINY)

    with slack({"ok": True}) as (url, requests):
        connection = {"conn_type": "slack", "password": "xoxb-token", "extra": {"base_url": url}}
        env = {
            **environment(ROOT, tmp_path / "airflow", 8080),
            "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
            "AIRFLOW_CONN_SLACK_API_DEFAULT": json.dumps(connection),
        }
        done = subprocess.run([sys.executable, "-c", AIRFLOW], capture_output=True, text=True, env=env, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]

    [run] = Path(RetrainConfig.from_yaml(retraining).work).iterdir()
    assert {f"{step}.json" for step in RETRAINING_STEPS} <= {entry.name for entry in run.iterdir()} | {"snapshot.json"}
    candidate = registry.version("mail", "champion")
    assert (champion.number, candidate.number) == (1, 2)
    assert candidate.digest != champion.digest
    [(_, _, message)] = requests
    assert message["channel"] == "#mail"
    assert message["text"].startswith("mail: version 2 of the model mail is the champion\n")
    assert "passed: max_f1_loss: macro-F1 on golden" in message["text"]
    with closing(sqlite3.connect(tmp_path / "airflow" / "airflow.db")) as database:
        changed = database.execute(
            "select asset.name, asset_event.extra from asset_event join asset on asset.id = asset_event.asset_id"
        ).fetchall()
    assert changed == [("mail.model", '{"version": 2}')]
