"""Exploration over Delta tables: decisions are reproducible and load no model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pyspark.sql import SparkSession
from pyspark.testing import assertDataFrameEqual
from stored_tables import stored_rows

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.feedback.exploration import sampling_probabilities
from gliclass_spark.labels import LabelSet
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.jobs import STEPS, PipelineRun, is_up_to_date, tag_step
from gliclass_spark.spark.transforms import exploring

pytestmark = pytest.mark.long

LABELS = ["spam", "lake", "boat"]
TEXTS = {f"d-{number}": f"document number {number} speaks of a lake" for number in range(12)} | {"blank": " "}
RunFactory = Callable[..., PipelineRun]


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


def run_steps(run: PipelineRun) -> dict[str, Manifest]:
    return {name: STEPS[name](run) for name in run.pipeline.steps}


@pytest.fixture(scope="module")
def first_run(spark: SparkSession, tiny_bi_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a pipeline without exploration and return its folder. Copy it, don't change it."""
    folder = tmp_path_factory.mktemp("first_run")
    frame = spark.createDataFrame(list(TEXTS.items()), "id string, body string").coalesce(1)
    frame.write.format("delta").option("delta.enableChangeDataFeed", "true").save(str(folder / "mail"))
    run_steps(PipelineRun(spark, pipeline_of(folder, tiny_bi_encoder), "run-1", precision="float32"))
    return folder


@pytest.fixture
def new_run(spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, first_run: Path) -> RunFactory:
    """Return `new_run(run_id, **settings)`: the next run of that pipeline, with changed settings."""
    for name in ("mail", "lake"):
        shutil.copytree(first_run / name, tmp_path / name)

    def run(run_id: str, **settings: Any) -> PipelineRun:
        return PipelineRun(spark, pipeline_of(tmp_path, tiny_bi_encoder, **settings), run_id, precision="float32")

    return run


def decisions(run: PipelineRun, table: str = "tags") -> dict[str, dict[str, Any]]:
    rows = stored_rows(run.lake.path(table))
    lineage = {"run_id", "tagged_at"}
    return {row["doc_id"]: {name: value for name, value in row.items() if name not in lineage} for row in rows}


def test_a_changed_share_changes_labels_without_loading_a_model(new_run: RunFactory) -> None:
    before = decisions(new_run("run-1"))
    assert {row["explored"] for row in before.values()} == {None}
    explored = new_run("run-2", exploration=0.5)
    assert not is_up_to_date(explored)
    done = run_steps(explored)
    assert (done["tag"].tagged, done["tag"].model_loads) == (0, 0)
    assert "decided again, from their existing scores" in str(done["tag"].message)
    rows = decisions(explored)
    assert {row["explored"] for key, row in rows.items() if key != "blank"} == {True, False}
    assert (rows["blank"]["explored"], rows["blank"]["propensities"]) == (None, None)
    for key, row in rows.items():
        assert row["scores"] == before[key]["scores"]
        if row["explored"] is False:
            assert row["labels"] == before[key]["labels"]
        if row["scores"]:
            label_set = explored.pipeline.label_set
            scores = np.array([[row["scores"][label] for label in label_set.names]], dtype=np.float32)
            rates = sampling_probabilities(scores, label_set)[0].tolist()
            for label, rate in zip(label_set.names, rates, strict=True):
                assert row["propensities"][label] == 0.5 * (label in before[key]["labels"]) + 0.5 * rate
    # The filter uses the sampled labels.
    kept = decisions(explored, "kept")
    assert {key: row["labels"] for key, row in kept.items()} == {key: rows[key]["labels"] for key in kept}
    assert is_up_to_date(explored)

    # Back to the first settings: the tables changed since the run that had them.
    run_steps(new_run("run-3"))
    assert decisions(new_run("run-3")) == before
    again = run_steps(new_run("run-4", exploration=0.5))
    assert again["tag"].tagged == 0
    assert decisions(explored) == rows
    assert {key: row["labels"] for key, row in decisions(explored, "kept").items()} == {
        key: rows[key]["labels"] for key in kept
    }


def test_promise_4_the_same_labels_are_sampled_for_new_and_for_existing_scores(
    new_run: RunFactory, tmp_path: Path
) -> None:
    existing = new_run("run-2", exploration=0.5)
    tag_step(existing)
    fresh = new_run("other", exploration=0.5, tables="fresh")
    assert tag_step(fresh).tagged == len(TEXTS)
    expected = decisions(existing)
    for key, row in decisions(fresh).items():
        assert (row["labels"], row["explored"]) == (expected[key]["labels"], expected[key]["explored"])
    # The same rows in another partitioning.
    rows = fresh.lake.read(fresh.spark, "tags")
    decided = exploring.decide_labels(rows.repartition(7), LabelSet.of(*LABELS, name="mail"), 0.5)
    assertDataFrameEqual(decided.select(rows.columns), rows, rtol=0, atol=0)
    # A full scan changes nothing.
    version = fresh.lake.table("tags").latest(fresh.spark)
    assert tag_step(replace(fresh, run_id="full-scan", full=True)).tagged == 0
    assert fresh.lake.table("tags").latest(fresh.spark) == version


def test_tables_without_the_columns_of_exploration_get_them(new_run: RunFactory) -> None:
    run = new_run("run-2", exploration=0.5)
    spark = run.spark
    for table in ("tags", "kept"):
        path = run.lake.path(table)
        spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES (delta.columnMapping.mode = 'name')")
        columns = ["explored", "propensities"] if table != "kept" else ["explored"]
        spark.sql(f"ALTER TABLE delta.`{path}` DROP COLUMNS ({', '.join(columns)})")
    done = run_steps(run)
    assert done["tag"].tagged == 0
    assert done["filter"].message == "kept lacked explored: every document was decided about again"
    for table in ("tags", "kept"):
        explored = {row["explored"] for key, row in decisions(run, table).items() if key != "blank"}
        assert explored == {True, False}
