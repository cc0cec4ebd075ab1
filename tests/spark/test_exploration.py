"""The exploration lane in the tables: the same rows however often and wherever they are decided, and no model asked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.labels import LabelSet
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.jobs import STEPS, PipelineRun, tag_step, up_to_date
from gliclass_spark.spark.transforms import exploring

LABELS = ["spam", "lake", "boat"]
TEXTS = {f"d-{number}": f"document number {number} speaks of a lake" for number in range(12)} | {"blank": " "}
Configured = Callable[..., PipelineRun]


def pipeline_of(folder: Path, model: str, **settings: Any) -> Pipeline:
    document = {
        "name": "mail",
        "source": {"path": "mail", "id": "id", "text": "body"},
        "label_set": LABELS,
        "model": model,
        "tables": "lake",
        "max_error_ratio": 0.5,
        "steps": ["tag", "filter"],
        **settings,
    }
    (folder / "mail.yaml").write_text(yaml.safe_dump(document))
    return Pipeline.from_yaml(folder / "mail.yaml")


def night(run: PipelineRun) -> dict[str, Manifest]:
    return {name: STEPS[name](run) for name in run.pipeline.steps}


@pytest.fixture(scope="module")
def first_night(spark: SparkSession, tiny_bi_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake behind a night without exploration. To be copied, not to be changed."""
    folder = tmp_path_factory.mktemp("first_night")
    frame = spark.createDataFrame(list(TEXTS.items()), "id string, body string").coalesce(1)
    frame.write.format("delta").option("delta.enableChangeDataFeed", "true").save(str(folder / "mail"))
    night(PipelineRun(spark, pipeline_of(folder, tiny_bi_encoder), "night-1", precision="float32"))
    return folder


@pytest.fixture
def configured(spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, first_night: Path) -> Configured:
    """The pipeline behind that night, with settings of its own."""
    for name in ("mail", "lake"):
        shutil.copytree(first_night / name, tmp_path / name)

    def run(run_id: str, **settings: Any) -> PipelineRun:
        return PipelineRun(spark, pipeline_of(tmp_path, tiny_bi_encoder, **settings), run_id, precision="float32")

    return run


def decisions(run: PipelineRun, table: str = "tags") -> dict[str, dict[str, Any]]:
    rows = run.lake.read(run.spark, table).drop("run_id", "tagged_at").collect()
    return {row["doc_id"]: row.asDict(recursive=True) for row in rows}


def test_a_share_that_changes_changes_labels_and_asks_no_model(configured: Configured) -> None:
    before = decisions(configured("night-1"))
    assert {row["explored"] for row in before.values()} == {None}
    explored = configured("night-2", exploration=0.5)
    assert not up_to_date(explored)
    done = night(explored)
    assert (done["tag"].tagged, done["tag"].model_loads) == (0, 0)
    assert "decided again, from their existing scores" in str(done["tag"].message)
    found = decisions(explored)
    assert {row["explored"] for key, row in found.items() if key != "blank"} == {True, False}
    assert (found["blank"]["explored"], found["blank"]["propensities"]) == (None, None)
    for key, row in found.items():
        assert row["scores"] == before[key]["scores"]
        if row["explored"] is False:
            assert row["labels"] == before[key]["labels"]
        for label, score in row["scores"].items():
            assert row["propensities"][label] == 0.5 * (label in before[key]["labels"]) + 0.5 * score
    # The decisions that follow see what was drawn.
    kept = decisions(explored, "kept")
    assert {key: row["labels"] for key, row in kept.items()} == {key: found[key]["labels"] for key in kept}
    assert up_to_date(explored)

    # Back to what was, though a run of long ago had just these settings: its outcome no longer stands.
    night(configured("night-3"))
    assert decisions(configured("night-3")) == before
    again = night(configured("night-4", exploration=0.5))
    assert again["tag"].tagged == 0
    assert decisions(explored) == found
    assert {key: row["labels"] for key, row in decisions(explored, "kept").items()} == {
        key: found[key]["labels"] for key in kept
    }


def test_promise_4_texts_tagged_under_exploration_and_decided_anew_are_drawn_alike(
    configured: Configured, tmp_path: Path
) -> None:
    anew = configured("night-2", exploration=0.5)
    tag_step(anew)
    fresh = configured("other", exploration=0.5, tables="fresh")
    assert tag_step(fresh).tagged == len(TEXTS)
    expected = decisions(anew)
    for key, row in decisions(fresh).items():
        assert (row["labels"], row["explored"]) == (expected[key]["labels"], expected[key]["explored"])
    # Another partitioning of the same rows.
    rows = fresh.lake.read(fresh.spark, "tags")
    spread = exploring.decide_labels(rows.repartition(7), LabelSet.of(*LABELS, name="mail"), 0.5)
    found = {row["doc_id"]: row.asDict(recursive=True) for row in spread.drop("run_id", "tagged_at").collect()}
    assert found == decisions(fresh)
    # And all of them asked again.
    version = fresh.lake.table("tags").latest(fresh.spark)
    assert tag_step(replace(fresh, run_id="twice", full=True)).tagged == 0
    assert fresh.lake.table("tags").latest(fresh.spark) == version


def test_a_table_from_before_there_was_exploration_gets_its_columns(configured: Configured) -> None:
    run = configured("night-2", exploration=0.5)
    spark = run.spark
    for table in ("tags", "staged", "kept"):
        path = run.lake.path(table)
        spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES (delta.columnMapping.mode = 'name')")
        lane = ["explored", "propensities"] if table != "kept" else ["explored"]
        spark.sql(f"ALTER TABLE delta.`{path}` DROP COLUMNS ({', '.join(lane)})")
    done = night(run)
    assert done["tag"].tagged == 0
    assert done["filter"].message == "kept lacked explored: every document was decided about again"
    for table in ("tags", "kept"):
        found = {row["explored"] for key, row in decisions(run, table).items() if key != "blank"}
        assert found == {True, False}
