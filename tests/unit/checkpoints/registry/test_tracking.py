"""MLflow runs: what they log, and their status."""

from __future__ import annotations

from pathlib import Path

import pytest

from gliclass_spark.checkpoints.registry import Registry


def test_a_run_logs_parameters_metrics_tags_artifacts_and_the_environment(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("{}")
    with registry.run("retraining", "retrain-1", {"steps": 3, "data_version": 17}) as tracked:
        for step, loss in enumerate([3.0, 2.0]):
            tracked.log_metrics({"loss": loss}, step)
        tracked.set_tags({"data": "mail"})
        tracked.log_artifact(tmp_path / "scores.json", "report")
    run = registry._client.get_run(tracked.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "retrain-1")
    assert run.data.params == {"steps": "3", "data_version": "17"}
    curve = registry._client.get_metric_history(tracked.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(0, 3.0), (1, 2.0)]
    assert {"data", "python", "torch", "transformers", "gliclass_spark"} <= run.data.tags.keys()
    assert [file.path for file in registry._client.list_artifacts(tracked.run_id, "report")] == ["report/scores.json"]


def test_a_run_whose_block_raises_has_the_status_failed(registry: Registry) -> None:
    with pytest.raises(ZeroDivisionError), registry.run("retraining", "retrain-1", {}) as tracked:
        _ = 1 / 0
    assert registry._client.get_run(tracked.run_id).info.status == "FAILED"
