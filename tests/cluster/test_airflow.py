"""A DAG's step submitted to a cluster through its connection."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from quick_spark import QUICK_SPARK

from devtools.standalone_cluster import StandaloneCluster
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs import history

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def test_a_dags_job_runs_on_the_cluster_of_its_connection(
    cluster: StandaloneCluster, tmp_path: Path, tiny_bi_encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Imports Airflow, which takes seconds, and of several processes one runs this test.
    from gliclass_spark.airflow.dags.pipeline_dag import pipeline_dag

    for name, value in cluster.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{cluster.env['PATH']}")
    monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", json.dumps({"conn_type": "spark", "host": cluster.master_url}))
    write_deltalake(str(tmp_path / "mail"), pa.table({"id": ["a", "b"], "body": ["a lake of data", "spam"]}))
    settings = {
        **QUICK_SPARK,
        "spark.driver.host": "127.0.0.1",
        "spark.executor.memory": "1g",
        "spark.cores.max": 1,  # two would be on two executors
    }
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(settings))
    document = {
        "name": "mail",
        "source": {"path": "mail", "id": "id", "text": "body"},
        "label_set": ["spam", "lake"],
        "model": tiny_bi_encoder,
        "tables": "lake",
        "steps": ["tag"],
        "airflow": {"connection": "cluster", "spark_conf": "cluster.yaml"},
    }
    file = tmp_path / "mail.yaml"
    file.write_text(yaml.safe_dump(document))
    pipeline = Pipeline.from_yaml(file)
    tag = pipeline_dag(file, pipeline).get_task("tag")
    tag.run_id = "run-1"
    tag.until = None  # no template is rendered here

    tag.execute({})

    [manifest] = [row for row in history.read_manifests(pipeline) if row.status == "succeeded"]
    assert (manifest.run_id, manifest.job, manifest.tagged) == ("run-1", "tag", 2)
    logs = "".join(path.read_text(errors="replace") for path in cluster.folder.rglob("*.log"))
    assert "Registered app mail.tag" in logs
