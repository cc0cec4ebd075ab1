"""Local rows become a DataFrame unchanged, and without a Python worker."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession

from gliclass_spark.runs.manifest import Manifest, VersionRange
from gliclass_spark.spark.delta.local_rows import local_rows
from gliclass_spark.spark.delta.runs_table import RUNS, manifest_of


def test_a_manifest_is_read_back_unchanged(spark: SparkSession) -> None:
    manifest = Manifest(
        run_id="run-1",
        pipeline="mail",
        job="tag",
        status="succeeded",
        sequence=3,
        started_at=datetime(2026, 11, 23, 2, 0, 0, 123456, tzinfo=UTC),
        finished_at=datetime(2026, 11, 23, 2, 1, tzinfo=UTC),
        source="mail",
        label_set="topics",
        label_set_hash="l",
        rules_hash="r",
        settings_hash="s",
        model="embedded",
        rejected={"spam": 2},
        score_histograms={"a": [1, 0, 2], "b": []},
        step_seconds={"read": 0.25},
        inputs={"source": VersionRange("t", None, 7)},
    )
    values = {**asdict(manifest), "seconds": 60.0}
    [row] = local_rows(spark, [{name: values[name] for name in RUNS.names}], RUNS).collect()
    assert manifest_of(row) == manifest


def test_no_rows_have_a_schema(spark: SparkSession) -> None:
    empty = local_rows(spark, [], RUNS)
    assert (empty.schema, empty.count()) == (RUNS, 0)


def test_local_rows_start_no_python_worker(spark: SparkSession) -> None:
    def lineage(frame: DataFrame) -> str:
        return str(frame._jdf.queryExecution().toRdd().toDebugString())

    assert "Python" in lineage(spark.createDataFrame([("a",)], "name string"))
    assert "Python" not in lineage(local_rows(spark, [dict.fromkeys(RUNS.names)], RUNS))
