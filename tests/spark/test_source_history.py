"""A source that others alter, restore, put back and rename: the tables end as those of a fresh pipeline."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from delta_pipeline import alter, assert_follows_source, documents, pipeline_of, run_all, source, write
from pyspark.sql import SparkSession

from gliclass_spark.spark.jobs import PipelineRun

NO_ROUTES = {"steps": ["tag", "filter"], "routes": []}


@pytest.fixture
def run(spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path) -> PipelineRun:
    write(documents(spark, range(4)), tmp_path)
    return PipelineRun(spark, pipeline_of(tmp_path, tiny_bi_encoder, **NO_ROUTES), "run-1", precision="float32")


def test_an_id_that_changes_by_update_leaves_no_document_behind(run: PipelineRun) -> None:
    run_all(run, "run-1")
    source(run).update("id = '3'", {"id": "'30'"})
    done = run_all(run, "run-2")
    assert (done["tag"].full_scan, done["tag"].tagged, done["tag"].tombstoned) == (False, 1, 1)
    assert_follows_source(run)


@pytest.mark.long
def test_a_source_put_back_from_a_copy_is_read_in_full(run: PipelineRun, tmp_path: Path) -> None:
    """Also once it has as many versions as the one that was read before."""
    shutil.copytree(tmp_path / "documents", tmp_path / "copy")
    write(documents(run.spark, [4]), tmp_path)
    source(run).update("id = '1'", {"body": "'a text of the lost lake of data'"})
    run_all(run, "run-1")
    shutil.rmtree(tmp_path / "documents")
    shutil.copytree(tmp_path / "copy", tmp_path / "documents")
    run.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    fewer = run_all(run, "run-2")["tag"]
    assert (fewer.full_scan, fewer.tombstoned) == (True, 1)
    assert "was read in a full scan: it has fewer versions than were read before: it was put back" in str(fewer.message)
    assert_follows_source(run)

    run_all(run, "run-3")
    shutil.rmtree(tmp_path / "documents")
    shutil.copytree(tmp_path / "copy", tmp_path / "documents")
    run.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    source(run).update("id = '2'", {"body": "'a text of the lake of data that was put back'"})
    run_all(run, "run-4")
    shutil.rmtree(tmp_path / "documents")
    shutil.copytree(tmp_path / "copy", tmp_path / "documents")
    run.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    write(documents(run.spark, [7]), tmp_path)
    as_many = run_all(run, "run-5")["tag"]
    assert "its version 2 is not the one that was read before" in str(as_many.message)
    assert_follows_source(run)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["restore", "feed off and on", "renamed", "dropped", "recreated"])
def test_the_tables_follow_a_source_that_was_altered(run: PipelineRun, tmp_path: Path, kind: str) -> None:
    run_all(run, "run-1")
    write(documents(run.spark, [4]), tmp_path)
    if kind == "restore":
        version = source(run).history(1).collect()[0]["version"]
        source(run).delete("id = '1'")
        run_all(run, "run-2")
        source(run).restoreToVersion(version).collect()
    elif kind == "feed off and on":
        alter(run, "SET TBLPROPERTIES (delta.enableChangeDataFeed = false)")
        source(run).delete("id = '1'")
        alter(run, "SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")
    elif kind == "renamed":
        alter(run, "RENAME COLUMN n TO number")
    elif kind == "dropped":
        alter(run, "DROP COLUMN n")
    else:
        shutil.rmtree(tmp_path / "documents")
        write(documents(run.spark, [2, 8]), tmp_path)
        write(documents(run.spark, [9]), tmp_path)
        run.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    run_all(run, "run-3")
    assert_follows_source(run)
