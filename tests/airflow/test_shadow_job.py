"""The task of a shadow run: beside the jobs, skipped without a challenger, and successful by its manifest."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowException, AirflowSkipException
from spark_submit_stand_in import fake_spark_submit
from written_runs import manifest, write_runs

from gliclass_spark.airflow.dags.pipeline_dag import pipeline_dag
from gliclass_spark.airflow.operators.shadow_job import ShadowJob
from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError


def write(folder: Path, model: str = "models:/mail@champion", **airflow: Any) -> Path:
    document = {
        "name": "mail",
        "source": {"path": "mail", "id": "id", "text": "body"},
        "label_set": ["spam"],
        "tables": "lake",
        "model": model,
        "airflow": airflow,
    }
    (folder / "mail.yaml").write_text(yaml.safe_dump(document))
    return folder / "mail.yaml"


def test_the_task_is_beside_the_jobs_and_before_the_report(tmp_path: Path) -> None:
    file = write(tmp_path, shadow=True, pool="gpu")
    dag = pipeline_dag(file, Pipeline.from_yaml(file))
    assert dag.get_task("tag").downstream_task_ids == {"filter", "shadow"}
    assert (dag.get_task("shadow").downstream_task_ids, dag.get_task("shadow").pool) == ({"report"}, "gpu")
    file = write(tmp_path)
    assert "shadow" not in pipeline_dag(file, Pipeline.from_yaml(file)).task_ids
    file = write(tmp_path, "embedded", shadow=True)
    with pytest.raises(ConfigError, match=r"airflow\.shadow compares with the challenger of a registered model"):
        pipeline_dag(file, Pipeline.from_yaml(file))


def test_the_manifest_of_the_challenger_decides(
    tmp_path: Path, registry_database: Path, tiny_bi_encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(registry_database, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    registry = Registry()
    with registry.run("mail", "first", {}) as tracked:
        version = registry.register("mail", Path(tiny_bi_encoder), tracked.run_id)
    file = write(tmp_path)
    task = ShadowJob(task_id="shadow", pipeline_file=str(file))
    with pytest.raises(AirflowSkipException, match="the model has no challenger"):
        task.execute({})
    registry.set_challenger("mail", version)
    fake_spark_submit(tmp_path, monkeypatch, 0)
    by_another = replace(manifest("tag"), job="shadow", model_digest="a" * 64)
    write_runs(tmp_path, [by_another])
    with pytest.raises(AirflowException, match=rf"of a shadow run by the challenger \({version.digest[:12]}"):
        task.execute({})
    write_runs(tmp_path, [replace(by_another, model_digest=version.digest, sequence=2)])
    task.execute({})
    assert (tmp_path / "arguments").read_text().splitlines()[-3:] == ["shadow", str(file), "--json"]
