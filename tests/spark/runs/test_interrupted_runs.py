"""Runs that end early: killed, on a full disk, in a folder of other files. The next run completes the work."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from delta_pipeline import source
from incremental_pipeline import TEXTS, create_mail, mail_run
from pyspark.sql import SparkSession
from stored_tables import stored_rows

from gliclass_spark.errors import JobError, TableError
from gliclass_spark.spark.jobs import PipelineRun, tag_step


@pytest.fixture
def run(spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path) -> PipelineRun:
    """A pipeline before its first run."""
    create_mail(spark, tmp_path)
    return mail_run(spark, tmp_path, tiny_bi_encoder)


def test_staged_scores_of_a_killed_run_are_kept(run: PipelineRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kill comes between the last slice and the merge, where it would cost most."""
    from gliclass_spark.spark.jobs import tag as tag_job
    from gliclass_spark.spark.jobs.tag_steps import scoring_queue

    monkeypatch.setattr(scoring_queue, "_SLICE_ROWS", len(TEXTS) - 1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tag_job, "check_errors", killed)
    with pytest.raises(KeyboardInterrupt):
        tag_step(run)
    assert not run.lake.exists(run.spark, "tags")
    monkeypatch.undo()
    source(run).update("id = 'plain-0'", {"body": "'changed since'"})
    staged_at = {row["doc_id"]: row["tagged_at"] for row in stored_rows(run.lake.path("staged"))}
    assert set(staged_at) == set(TEXTS)
    progress: list[tuple[int, int]] = []
    done = tag_step(replace(run, run_id="run-2", on_progress=lambda *counts: progress.append(counts)))
    assert (done.tagged, progress[-1]) == (len(TEXTS), (1, 1)), "only the changed text is scored"
    assert done.texts_per_s is not None
    tags = stored_rows(run.lake.path("tags"))
    assert [row["token_count"] for row in tags if row["doc_id"] == "plain-0"] == [2]
    assert stored_rows(run.lake.path("staged")) == []
    tagged_at = {row["doc_id"]: row["tagged_at"] for row in tags}
    assert tagged_at.pop("plain-0") > max(staged_at.values())
    assert tagged_at == {key: time for key, time in staged_at.items() if key != "plain-0"}


def test_a_folder_of_other_files_is_refused_as_a_table(run: PipelineRun) -> None:
    Path(run.lake.path("tags")).mkdir(parents=True)
    Path(run.lake.path("tags"), "notes.txt").write_text("a note")
    with pytest.raises(TableError, match=r"tags holds files, but is no Delta table"):
        tag_step(run)


def test_a_full_disk_is_one_clear_error_and_the_next_run_completes(run: PipelineRun, small_disk: Path) -> None:
    """The lake is on a disk with no room for the scores."""
    small = replace(run, pipeline=run.pipeline.model_copy(update={"tables": str(small_disk / "lake")}))
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * (small_disk_free(small_disk) - 40_000))
    with pytest.raises(JobError, match=r"tag of pipeline 'mail' failed: .*No space left on device.*run again"):
        tag_step(small)
    ballast.unlink()
    assert tag_step(replace(small, run_id="run-2")).tagged == len(TEXTS)


def small_disk_free(folder: Path) -> int:
    stats = os.statvfs(folder)
    return stats.f_bavail * stats.f_frsize


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["/bin/umount", "-l", str(folder)], check=True)
