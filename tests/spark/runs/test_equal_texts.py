"""Equal texts are scored once, and each of their documents has its row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from delta_pipeline import pipeline_of
from pyspark.sql import SparkSession
from stored_tables import stored_rows

from gliclass_spark import Engine
from gliclass_spark.spark.delta.schema import TAGS
from gliclass_spark.spark.jobs import PipelineRun, tag_step
from gliclass_spark.spark.jobs.plan import plan

LAKE, SEA = "a document of a lake of data", "another document, of the sea"
# Null and blank texts are errors, of each document its own.
TEXTS = {"1": LAKE, "2": SEA, "3": LAKE, "4": None, "5": LAKE, "6": None, "7": SEA, "8": "  ", "9": LAKE}
NOT_COMPARED = {"run_id", "tagged_at"}


def run_over(spark: SparkSession, folder: Path, model: str, texts: dict[str, str | None]) -> PipelineRun:
    rows = spark.createDataFrame(
        [(key, text, int(key)) for key, text in texts.items()], "id string, body string, n int"
    )
    rows.coalesce(1).write.format("delta").save(str(folder / "documents"))
    return PipelineRun(spark, pipeline_of(folder, model), "run-1", precision="float32")


def tags(run: PipelineRun) -> dict[str, dict[str, Any]]:
    columns = [name for name in TAGS.names if name not in NOT_COMPARED]
    return {row["doc_id"]: {name: row[name] for name in columns} for row in stored_rows(run.lake.path("tags"))}


@pytest.mark.parametrize("slice_rows", [100, pytest.param(4, marks=pytest.mark.long)])
def test_equal_texts_are_scored_once(
    spark: SparkSession, tmp_path: Path, tiny_bi_encoder: str, slice_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gliclass_spark.spark.jobs.tag_steps import scoring_queue

    monkeypatch.setattr(scoring_queue, "_SLICE_ROWS", slice_rows)
    run = run_over(spark, tmp_path, tiny_bi_encoder, TEXTS)
    planned = plan(run, sample_rows=100)
    progress: list[tuple[int, int]] = []
    done = tag_step(replace(run, on_progress=lambda *counts: progress.append(counts)))

    engine = Engine.from_pretrained(tiny_bi_encoder, device="cpu", precision="float32")
    expected = {text: engine.classify([text], run.pipeline.label_set)[0] for text in (LAKE, SEA, None, "  ")}
    by_id = tags(run)
    assert set(by_id) == set(TEXTS)
    for key, text in TEXTS.items():
        row, error = by_id[key], expected[text].error
        assert row["scores"] == pytest.approx(expected[text].scores, abs=1e-5)
        assert (row["error"] and row["error"]["code"]) == (error and error.code)
        same = next(other for other, other_text in TEXTS.items() if other_text == text)
        assert row == {**by_id[same], "doc_id": key}
    # Two null texts are two errors.
    assert (done.tagged, progress[-1]) == (len(TEXTS), (5, 5))
    assert done.tokens == engine.run([LAKE, SEA], run.pipeline.label_set).usage.tokens
    assert planned.to_tag == len(TEXTS)
    assert done.message == "9 documents with 5 distinct texts: equal texts were scored once"


def test_equal_records_that_can_t_be_read_are_quarantined_each_in_its_file(
    spark: SparkSession, tmp_path: Path, tiny_bi_encoder: str
) -> None:
    (tmp_path / "mail").mkdir()
    for name in ("first", "second"):
        (tmp_path / "mail" / f"{name}.json").write_text(f'{{"id": "{name}", "body": "{LAKE}"}}\n{{broken\n')
    source = {"path": "mail", "format": "json", "id": "id", "text": "body"}
    pipeline = pipeline_of(tmp_path, tiny_bi_encoder, source=source, routes=[])
    run = PipelineRun(spark, pipeline, "run-1", precision="float32")
    done = tag_step(run)
    assert done.message == "4 documents with 3 distinct texts: equal texts were scored once"
    errors = {key: row["error"]["message"] for key, row in tags(run).items() if row["error"]}
    assert [any(name in message for message in errors.values()) for name in ("first.json", "second.json")] == [True] * 2
