"""A pipeline's run from Python: the record has the counts of the tables, the report, and where the tables are."""

from __future__ import annotations

from pathlib import Path

import pytest
from delta_pipeline import documents, write
from pyspark.sql import SparkSession
from stored_tables import stored_rows

from gliclass_spark import Pipeline, run
from gliclass_spark.errors import TableError
from gliclass_spark.runs.history import read_manifests, select_run
from gliclass_spark.spark.jobs import PipelineRun


def test_a_run_from_python_is_recorded_and_reported(
    delta_run: PipelineRun, spark: SparkSession, tmp_path: Path
) -> None:
    write(documents(spark, [4, 5]), tmp_path)
    record = run(delta_run.pipeline, spark=spark, precision="float32", report=tmp_path / "run.html")
    tables = {name: stored_rows(path) for name, path in record.tables.items()}
    assert list(tables) == ["tags", "kept", "rejected", "quarantined", "odd", "unrouted", "runs"]
    counts = record.counts
    assert (counts["documents"], counts["tagged"]) == (6, 2)
    assert counts["kept"] + counts["rejected"] + counts["quarantined"] == 2
    for table, name in (("kept", "kept"), ("odd", "to odd"), ("unrouted", "to unrouted")):
        assert [row["run_id"] for row in tables[table]].count(record.run_id) == counts[name]
    assert select_run(read_manifests(delta_run.pipeline), record.run_id)[0] == list(record.manifests)
    assert record.report == tmp_path / "run.html"
    assert record.run_id in (tmp_path / "run.html").read_text()

    again = run(delta_run.pipeline)  # in the active session
    assert (again.counts["documents"], again.counts["tagged"], again.report) == (6, 0, None)
    assert again.run_id != record.run_id


def test_a_source_that_is_missing_is_an_error_in_one_line(spark: SparkSession, tmp_path: Path) -> None:
    source = {"path": str(tmp_path / "missing"), "id": "id", "text": "body"}
    pipeline = Pipeline(name="mail", source=source, label_set=["spam"], tables=str(tmp_path / "lake"))  # type: ignore[arg-type]
    with pytest.raises(TableError, match="missing") as caught:
        run(pipeline, spark=spark)
    assert "\n" not in str(caught.value)
