"""A source that others alter, restore, put back and rename: the tables end as those of a fresh pipeline."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from delta_pipeline import alter, assert_follows_source, documents, run_all, source, write

from gliclass_spark.spark.jobs import PipelineRun


@pytest.mark.long
def test_an_id_that_changes_by_update_leaves_no_document_behind(unrouted_run: PipelineRun) -> None:
    run = unrouted_run
    source(run).update("id = '3'", {"id": "'30'"})
    done = run_all(run, "run-2")
    assert (done["tag"].full_scan, done["tag"].tagged, done["tag"].tombstoned) == (False, 1, 1)
    assert_follows_source(run)


@pytest.mark.long
def test_a_source_put_back_from_a_copy_is_read_in_full(unrouted_run: PipelineRun, tmp_path: Path) -> None:
    """Also once it has as many versions as the one that was read before."""
    run = unrouted_run
    shutil.copytree(tmp_path / "documents", tmp_path / "copy")
    write(documents(run.spark, [4]), tmp_path)
    source(run).update("id = '1'", {"body": "'a text of the lost lake of data'"})
    run_all(run, "before")
    shutil.rmtree(tmp_path / "documents")
    shutil.copytree(tmp_path / "copy", tmp_path / "documents")
    run.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    fewer = run_all(run, "run-2")["tag"]
    assert (fewer.full_scan, fewer.tombstoned) == (True, 1)
    assert "was read in a full scan: it has fewer versions than were read before: it was put back" in str(fewer.message)
    assert_follows_source(run)

    source(run).update("id = '2'", {"body": "'a text of the lake of data that was put back'"})
    run_all(run, "run-3")
    shutil.rmtree(tmp_path / "documents")
    shutil.copytree(tmp_path / "copy", tmp_path / "documents")
    run.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    write(documents(run.spark, [7]), tmp_path)
    as_many = run_all(run, "run-4")["tag"]
    assert "its version 2 is not the one that was read before" in str(as_many.message)
    assert_follows_source(run)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["restored", "renamed", "dropped"])
def test_the_tables_follow_a_source_that_was_altered(unrouted_run: PipelineRun, tmp_path: Path, kind: str) -> None:
    run = unrouted_run
    write(documents(run.spark, [4]), tmp_path)
    if kind == "restored":
        version = source(run).history(1).collect()[0]["version"]
        source(run).delete("id = '1'")
        run_all(run, "run-2")
        source(run).restoreToVersion(version).collect()
    elif kind == "renamed":
        alter(run, "RENAME COLUMN n TO number")
    else:
        alter(run, "DROP COLUMN n")
    run_all(run, "run-3")
    assert_follows_source(run)
