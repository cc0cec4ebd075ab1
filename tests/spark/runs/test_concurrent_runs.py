"""Two runs of a pipeline at once: the one that claims later decides, by what it reads after its claim."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from delta.tables import DeltaTable
from delta_pipeline import (
    alter,
    assert_follows_source,
    content,
    documents,
    fresh,
    pipeline_of,
    run_all,
    source,
    table_rows,
    write,
)
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.errors import ConfigError, SupersededError, TableError
from gliclass_spark.spark.delta.runs_table import Runs
from gliclass_spark.spark.jobs import PipelineRun, filter_step, route_step, tag_step
from gliclass_spark.spark.jobs.job_run import Job


@pytest.fixture
def run(delta_run: PipelineRun) -> PipelineRun:
    return delta_run


@contextmanager
def once_before(owner: type, name: str, is_it: Callable[..., bool], do: Callable[[], Any]) -> Iterator[None]:
    """Do something the first time that the method is called with such arguments."""
    original, pending = getattr(owner, name), [do]

    def method(*args: Any, **kwargs: Any) -> Any:
        if pending and is_it(*args):
            pending.pop()()
        return original(*args, **kwargs)

    setattr(owner, name, method)
    try:
        yield
    finally:
        setattr(owner, name, original)


@pytest.mark.long
@pytest.mark.parametrize("job", ["tag", "filter"])
def test_promise_4_a_run_that_claims_later_reads_no_older_documents(run: PipelineRun, tmp_path: Path, job: str) -> None:
    def other_run() -> None:
        write(documents(run.spark, range(4, 8)), tmp_path)
        run_all(run, "other")

    with once_before(Runs, "claim", lambda _, manifest, *__: manifest.job == job, other_run):
        run_all(run, "slow")
    assert_follows_source(run)


@pytest.mark.long
def test_promise_4_rules_that_another_run_replaced_decide_no_more(
    run: PipelineRun, tmp_path: Path, tiny_bi_encoder: str
) -> None:
    run_all(run, "run-1")
    newer = replace(
        run, pipeline=pipeline_of(tmp_path, tiny_bi_encoder, reject=[{"reason": "odd", "when": "n % 2 = 1"}])
    )
    write(documents(run.spark, [4, 5]), tmp_path)
    for step in (tag_step, filter_step):
        step(replace(run, run_id="slow"))
    run_all(newer, "other")
    with pytest.raises(TableError, match="the last filter job did not use this label set and these rules"):
        route_step(replace(run, run_id="slow"))
    assert content(newer) == fresh(newer)


@pytest.mark.long
def test_a_file_that_changed_after_it_was_read_stops_the_run(run: PipelineRun, tmp_path: Path) -> None:
    path = tmp_path / "pipeline-0.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**config, "reject": []}))
    with pytest.raises(ConfigError, match=r"pipeline-0.yaml changed after this run had read it; run again"):
        tag_step(replace(run, run_id="run-2"))


@pytest.mark.long
def test_promise_4_a_superseded_run_brings_nothing_back_that_was_taken_out(run: PipelineRun, tmp_path: Path) -> None:
    """The later run has nothing to write: only its fence keeps the scores of the earlier one out of `tags`."""
    run = replace(run, pipeline=run.pipeline.model_copy(update={"steps": ("tag", "filter"), "routes": ()}))
    alter(run, "SET TBLPROPERTIES (delta.enableChangeDataFeed = false)")
    before = source(run).history(1).collect()[0]["version"]
    write(documents(run.spark, range(100, 103), "garbage {} of a bad load of data"), tmp_path)

    def take_back() -> None:
        source(run).restoreToVersion(before).collect()
        run_all(run, "other")

    is_tags = lambda job, table, _: job.run.run_id == "slow" and table == "tags"  # noqa: E731
    with (
        once_before(Job, "append", is_tags, take_back),
        pytest.raises(SupersededError, match="run 'slow' of tag was superseded by run 'other'"),
    ):
        tag_step(replace(run, run_id="slow"))
    assert [row["doc_id"] for row in table_rows(run, "tags")] == ["0", "1", "2", "3"]
    assert [manifest.rows_in for manifest in run_all(run, "next").values()] == [0, 0]
    assert_follows_source(run)


@pytest.mark.long
def test_sequence_numbers_follow_the_job_s_own_rows_whatever_the_clocks_say(
    run: PipelineRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`runs` holds more rows of a job that runs often than are read, and all are later than this machine's time."""
    monkeypatch.setattr("gliclass_spark.runs.history.RECENT_ROWS", 3)
    path = run.lake.path("runs")
    rows = run.lake.read(run.spark, "runs").where("job = 'tag'")
    copies = rows.crossJoin(run.spark.range(1, 6).withColumnRenamed("id", "k")).withColumns(
        {
            "sequence": F.col("sequence") + F.col("k"),
            "run_id": F.concat(F.lit("often-"), F.col("k")),
            "started_at": F.lit(datetime.now(UTC) + timedelta(days=1)),
        }
    )
    copies.drop("k").select(*rows.columns).write.format("delta").mode("append").save(path)
    done = run_all(run, "run-2")
    assert [manifest.sequence for manifest in done.values()] == [7, 2, 2]
    assert [manifest.full_scan for manifest in done.values()] == [False, False, False]


@pytest.mark.long
def test_pipelines_in_threads_of_one_session_leave_each_other_and_other_writes_alone(
    run: PipelineRun, tmp_path: Path, tiny_bi_encoder: str
) -> None:
    """Each job has transaction ids and an ANSI mode of its own."""
    shutil.copytree(tmp_path, tmp_path / "second")
    second = replace(run, pipeline=pipeline_of(tmp_path / "second", tiny_bi_encoder))
    own, appended, ansi = str(tmp_path / "own"), [], set()
    run.spark.range(0).write.format("delta").save(own)
    for number, folder in enumerate((tmp_path, tmp_path / "second")):
        write(documents(run.spark, [10 + number]), folder)
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(run_all, each, "run-2") for each in (run, second)]
        while not all(each.done() for each in runs):
            row = run.spark.range(len(appended), len(appended) + 1).coalesce(1)
            row.write.format("delta").mode("append").save(own)
            appended.append(len(appended))
            ansi.add(run.spark.conf.get("spark.sql.ansi.enabled"))
        for each in runs:
            each.result()
    assert sorted(row["id"] for row in run.spark.read.format("delta").load(own).collect()) == appended
    assert ansi == {"true"}
    for each in (run, second):
        assert_follows_source(each)


@pytest.mark.long
def test_full_and_retag_all_work_under_the_id_of_a_finished_run(run: PipelineRun) -> None:
    DeltaTable.forPath(run.spark, run.lake.path("tags")).delete("doc_id = '2'")
    assert tag_step(run).sequence == 1
    repaired = tag_step(replace(run, full=True))
    assert (repaired.sequence, repaired.full_scan, repaired.documents) == (2, True, 4)
    again = tag_step(replace(run, retag="all"))
    assert (again.sequence, again.tagged, again.retagged) == (3, 4, 4)
