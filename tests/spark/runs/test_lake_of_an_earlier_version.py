"""A lake written by version 0.1: the current code continues its runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from gliclass_spark.cli.app import main
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.delta_reader import delta_table, query
from gliclass_spark.runs.history import read_manifests
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.runs.settings import filter_settings, route_settings, tag_settings
from gliclass_spark.spark.jobs import STEPS, PipelineRun, is_up_to_date
from gliclass_spark.spark.jobs.feedback.ingestion import IngestedSignals, ingest
from gliclass_spark.spark.jobs.feedback.snapshot import snapshot

EARLIER = Path(__file__).parents[2] / "data" / "written_by_0.1"
EXPECTED = json.loads((EARLIER / "expected.json").read_text(encoding="utf-8"))["lake"]
TABLES = EXPECTED["tables"]
# Columns of `runs` that were renamed since then.
RENAMED = {"whole": "full_scan"}
RUNS: dict[str, dict[str, dict[str, Any]]] = {
    run_id: {
        job: {RENAMED.get(name, name): value for name, value in manifest.items()} for job, manifest in jobs.items()
    }
    for run_id, jobs in EXPECTED["runs"].items()
}
ADDED = {"package": "redis", "description": "Keeps keys and values of a database in memory.", "language": "en"}

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the lake."""
    return shutil.copytree(EARLIER / "lake", tmp_path_factory.mktemp("earlier") / "lake")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Pipeline:
    return Pipeline.from_yaml(folder / "pipeline.yaml")


@pytest.fixture(scope="module")
def unchanged(spark: SparkSession, pipeline: Pipeline, folder: Path) -> tuple[bool, Manifest, dict[str, Rows]]:
    """Tag the unchanged source. Return whether it was up to date before, the manifest, and the tables after it.

    The embedded model has other weights than the one that wrote the lake, so every document is scored again.
    """
    was_up_to_date = is_up_to_date(PipelineRun(spark, pipeline, "run-3"))
    done = STEPS["tag"](PipelineRun(spark, pipeline, "run-3", device="cpu", precision="float32"))
    return was_up_to_date, done, tables(folder)


@pytest.fixture(scope="module")
def one_more(
    spark: SparkSession, pipeline: Pipeline, folder: Path, unchanged: Any
) -> tuple[dict[str, Manifest], dict[str, Rows]]:
    """Add one document and run the pipeline. Return the manifests and the tables after it."""
    frame = spark.createDataFrame([ADDED], "package string, description string, language string").coalesce(1)
    frame.write.format("delta").mode("append").save(str(folder / "documents"))
    run = PipelineRun(spark, pipeline, "run-4", device="cpu", precision="float32")
    return {name: step(run) for name, step in STEPS.items()}, tables(folder)


def tables(folder: Path) -> dict[str, Rows]:
    """Return the rows of the tables, in the columns of expected.json."""
    return {name: rows(folder, name, expected) for name, expected in TABLES.items()}


def rows(folder: Path, name: str, expected: Rows) -> Rows:
    columns = [*expected[0]] if expected else ["doc_id"]
    table = query(delta_table(str(folder / "tables" / name)), "select * from t")
    selected = [{column: plain(column, row[column]) for column in columns} for row in table]
    return sorted(selected, key=lambda row: (row["doc_id"], row.get("label", "")))


def plain(column: str, value: Any) -> Any:
    """Return the value in the form in which `write.py` of the data stores it."""
    if column == "deleted_at":
        return value is not None
    if column == "error":
        return value and value["code"]
    if isinstance(value, dict):
        return {key: round(number, 4) for key, number in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def facts(manifest: Manifest) -> dict[str, Any]:
    """Return the fields of the manifest that `write.py` of the data stores."""
    fields = {name: value for name, value in asdict(manifest).items() if name in RUNS["run-1"]["tag"]}
    inputs = {name: [versions.since, versions.until] for name, versions in manifest.inputs.items()}
    return {**fields, "inputs": inputs, "outputs": {name: v.until for name, v in manifest.outputs.items()}}


def of_columns(table: Rows, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in table]


def test_its_manifests_are_read(pipeline: Pipeline) -> None:
    succeeded = [m for m in read_manifests(pipeline) if m.status == "succeeded" and m.run_id in RUNS]
    by_run = {run_id: {m.job: facts(m) for m in succeeded if m.run_id == run_id} for run_id in RUNS}
    assert by_run == RUNS


def test_its_settings_are_those_of_today_apart_from_the_model(pipeline: Pipeline) -> None:
    """So with the model that wrote it, nothing would be scored, and no decision be made, again."""
    recorded = {job: manifest["settings_hash"] for job, manifest in RUNS["run-2"].items()}
    digest = RUNS["run-2"]["tag"]["model_digest"]
    assert recorded == {
        "tag": tag_settings(pipeline, digest, "changed"),
        "filter": filter_settings(pipeline),
        "route": route_settings(pipeline),
    }


def test_the_weights_of_today_score_its_documents_again_and_other_tables_stay(unchanged: Any) -> None:
    was_up_to_date, done, after = unchanged
    assert not was_up_to_date
    assert (done.full_scan, done.rows_in, done.message) == (True, 12, None)
    assert (done.tagged, done.retagged, done.tombstoned, done.documents, done.sequence) == (12, 12, 0, 12, 3)
    for name in TABLES.keys() - {"tags"}:
        assert after[name] == TABLES[name], name
    unscored = ("doc_id", "deleted_at", "token_count", "error")
    assert of_columns(after["tags"], unscored) == of_columns(TABLES["tags"], unscored)


def test_only_a_new_document_is_scored_and_every_one_is_decided_again(one_more: Any) -> None:
    done, after = one_more
    facts_of = {name: (manifest.full_scan, manifest.rows_in, manifest.message) for name, manifest in done.items()}
    kept = done["filter"].kept
    assert facts_of == {"tag": (False, 1, None), "filter": (False, 13, None), "route": (False, kept, None)}
    assert (done["tag"].tagged, done["tag"].retagged, done["tag"].errors, done["tag"].documents) == (1, 0, {}, 13)
    added = {name: [row for row in table if row["doc_id"] == "redis"] for name, table in after.items()}
    assert {name for name, table in added.items() if table} == {"tags", "kept", "stores"}
    assert [(row["labels"], row["run_id"]) for row in added["tags"]] == [(["databases"], "run-4")]
    decided = [row["doc_id"] for name in ("kept", "rejected", "quarantined") for row in after[name]]
    live = [row["doc_id"] for row in after["tags"] if not row["deleted_at"]]
    assert sorted(decided) == sorted(live), "each document has one outcome"
    assert after["feedback"] == TABLES["feedback"]


@pytest.mark.long
def test_its_feedback_is_exported_and_new_feedback_is_ingested(
    spark: SparkSession, pipeline: Pipeline, folder: Path, one_more: Any
) -> None:
    assert snapshot(spark, pipeline, str(folder / "snapshot"), 0.25).counts == EXPECTED["snapshot"] | dict.fromkeys(
        ("mapped", "dropped", "over_share", "rewarded_documents"), 0
    )
    existing, news = (folder / "signals_2.jsonl").read_text(), folder / "news.jsonl"
    signal = {"doc_id": "redis", "label": "databases", "verdict": "accepted", "source": "review"}
    news.write_text(existing + json.dumps({**signal, "observed_at": "2030-01-03T08:00:00Z"}) + "\n")
    assert ingest(spark, pipeline, str(news)) == IngestedSignals(
        read=6, new=1, duplicates=5, documents=0, late=0, contradicting=0, refused={}
    )
    feedback = rows(folder, "feedback", TABLES["feedback"])
    assert [row for row in feedback if row["doc_id"] != "redis"] == TABLES["feedback"]
    assert [(row["chosen"], row["reward"]) for row in feedback if row["doc_id"] == "redis"] == [(True, 1.0)]
    # The label was NOT NULL in it.
    news.write_text(json.dumps({**signal, "label": None, "observed_at": "2030-01-03T08:00:00Z"}) + "\n")
    assert ingest(spark, pipeline, str(news)).documents == 1
    taken = snapshot(spark, pipeline, str(folder / "with_document"), 0.25)
    assert taken.counts["rewarded_documents"] == 1


@pytest.mark.parametrize(("run_id", "text"), [("run-1", "The moon went down"), ("run-2", "A client for Kafka")])
def test_a_report_of_its_runs_shows_the_documents_of_that_time(
    folder: Path, tmp_path: Path, run_id: str, text: str
) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(folder / "pipeline.yaml"), run_id, "--out", str(page)]) == 0
    assert text in page.read_text(encoding="utf-8")
