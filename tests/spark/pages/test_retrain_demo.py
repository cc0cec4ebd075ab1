"""Retraining demo: from a run to the next champion and back, with a training of a few steps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession

from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.cli.app import main
from gliclass_spark.config.model_uri import CHAMPION
from gliclass_spark.runs.delta_reader import delta_table, query

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]


@pytest.fixture
def config(spark: SparkSession, tmp_path: Path, registry_database: Path, tiny_label_cached_model: str) -> Path:
    """Copy the demo's configuration, with a small champion and a gate that every candidate passes."""
    for name in ("labels/software.yaml", "pipelines/reviewed.yaml"):
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True)
        path.write_text((ROOT / "conf" / name).read_text(encoding="utf-8"))
    document = yaml.safe_load((ROOT / "conf" / "retrain" / "reviewed.yaml").read_text(encoding="utf-8"))
    shutil.copy(registry_database, tmp_path)
    document["registry"] = f"sqlite:///{tmp_path}/mlflow.db"
    for step in ("supervised", "ppo"):
        document[step] |= {"steps": 2, "texts": 4}
    limits = ("max_f1_loss", "max_label_loss", "max_reward_loss", "max_calibration_loss")
    document["gate"] = {**dict.fromkeys(limits, 1.0), "max_slowdown": 1e9}
    registry = Registry(document["registry"])
    with registry.run("reviewed", "first", {}) as tracked:
        registry.register("reviewed", Path(tiny_label_cached_model), tracked.run_id)
    registry.promote("reviewed", "1")
    file = tmp_path / "conf" / "retrain" / "reviewed.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(document))
    return file


def test_the_demo_promotes_a_new_champion_and_rolls_it_back(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["retrain-demo", "--config", str(config)]) == 0
    output = capsys.readouterr().out
    first, second = Registry(f"sqlite:///{tmp_path}/mlflow.db").versions("reviewed")
    assert first.digest != second.digest
    assert second.tags["verdict"] == "promoted"
    assert CHAMPION in first.aliases, "the rollback restored it"
    runs = query(
        delta_table(f"{tmp_path}/lake/reviewed/runs"),
        "select model_digest from t where job = 'tag' and status = 'succeeded' order by finished_at",
    )
    assert [run["model_digest"] for run in runs] == [first.digest, second.digest, first.digest]
    tagged = query(delta_table(f"{tmp_path}/lake/reviewed/tags"), "select distinct model_digest from t")
    assert [row["model_digest"] for row in tagged] == [first.digest]
    for heading in ("1. The champion", "3. Reviews are ingested", "4. Retraining", "6. Rollback"):
        assert heading in output
