"""Nights after the first: what changed is looked at, what did not is left alone, and nothing is lost on the way."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import JobError, ManifestError, SupersededError, TableError
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.delta.writes import delete_rows
from gliclass_spark.spark.jobs import STEPS, PipelineRun, filter_step, route_step, tag_step
from gliclass_spark.spark.jobs.job_run import claimed_job

LINEAGE = ("run_id", "tagged_at", "deleted_at")
TEXTS = {
    **{f"plain-{number}": f"document number {number} speaks of a lake of data" for number in range(6)},
    "short": "short",
    "shop": "buy this boat for the lake",
    "null": None,
    "blank": "  ",
}


def configuration(tiny_bi_encoder: str) -> dict[str, Any]:
    return {
        "name": "mail",
        "source": {"path": "mail", "id": "id", "text": "body"},
        "label_set": ["spam", "lake"],
        "model": tiny_bi_encoder,
        "tables": "lake",
        "reject": [{"reason": "too_short", "when": "token_count < 4"}, {"reason": "old", "when": "lang = 'old'"}],
        "routes": [
            {"route": "shop", "when": "lower(body) like '%buy%'"},
            {"route": "water", "when": "body like '%lake%'"},
        ],
        "routing": "every_match",
        "max_error_ratio": 0.5,
    }


@pytest.fixture
def config(tiny_bi_encoder: str) -> dict[str, Any]:
    return configuration(tiny_bi_encoder)


@pytest.fixture(scope="module")
def first_night(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Manifest]]:
    """A folder in which a pipeline has run once, and what it said. To be copied, not to be changed."""
    folder = tmp_path_factory.mktemp("first_night")
    rows = [(key, text, "xx") for key, text in TEXTS.items()]
    frame = spark.createDataFrame(rows, "id string, body string, lang string")
    frame.coalesce(1).write.format("delta").option("delta.enableChangeDataFeed", "true").save(str(folder / "mail"))
    run = PipelineRun(spark, pipeline_of(configuration(tiny_bi_encoder), folder), "night-1", precision="float32")
    return folder, night(run, "night-1")


@pytest.fixture
def run(
    spark: SparkSession, config: dict[str, Any], tmp_path: Path, first_night: tuple[Path, dict[str, Manifest]]
) -> PipelineRun:
    """The pipeline before its first night."""
    shutil.copytree(first_night[0] / "mail", tmp_path / "mail")
    return PipelineRun(spark, pipeline_of(config, tmp_path), "night-1", precision="float32")


@pytest.fixture
def ran(run: PipelineRun, tmp_path: Path, first_night: tuple[Path, dict[str, Manifest]]) -> PipelineRun:
    """The pipeline behind its first night."""
    shutil.copytree(first_night[0] / "lake", tmp_path / "lake")
    return run


def pipeline_of(config: dict[str, Any], folder: Path) -> Pipeline:
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(config))
    return Pipeline.from_yaml(folder / "pipeline.yaml")


def night(run: PipelineRun, run_id: str) -> dict[str, Manifest]:
    return {name: step(replace(run, run_id=run_id)) for name, step in STEPS.items()}


def source(run: PipelineRun) -> DeltaTable:
    return DeltaTable.forPath(run.spark, str(run.pipeline.source.path))


def add(run: PipelineRun, **texts: str) -> None:
    rows = [(key, text, "xx") for key, text in texts.items()]
    frame = run.spark.createDataFrame(rows, "id string, body string, lang string").coalesce(1)
    frame.write.format("delta").mode("append").save(str(run.pipeline.source.path))


def said(rows: DataFrame) -> dict[str, dict[str, Any]]:
    """What a table says of each document, whenever it was written."""
    found = rows.drop(*LINEAGE).collect()
    said_of = {row["doc_id"]: row.asDict(recursive=True) for row in found}
    assert len(said_of) == len(found), "a document stands twice"
    return said_of


def near(found: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """The same, to be compared with: scores may differ as far as promise 1 allows, for the batches differ."""
    return {
        name: {key: {**row, "scores": pytest.approx(row["scores"], abs=1e-5)} for key, row in rows.items()}
        for name, rows in found.items()
    }


def tables(run: PipelineRun) -> dict[str, dict[str, dict[str, Any]]]:
    names = ["kept", "rejected", "quarantined", *run.pipeline.rules.destinations]
    found = {name: said(run.lake.read(run.spark, name)) for name in names}
    return {**found, "tags": said(run.lake.read(run.spark, "tags").where("deleted_at IS NULL"))}


def ids(run: PipelineRun, name: str) -> set[str]:
    return {row["doc_id"] for row in run.lake.read(run.spark, name).select("doc_id").collect()}


def test_promise_4_a_night_of_changes_ends_as_if_everything_had_been_looked_at(
    ran: PipelineRun, first_night: tuple[Path, dict[str, Manifest]], config: dict[str, Any], tmp_path: Path
) -> None:
    run, first = ran, first_night[1]
    assert [done.full_scan for done in first.values()] == [True, True, True]
    assert first["route"].routed == {"shop": 1, "water": 7, "unrouted": 0}
    assert (first["route"].rows_in, first["route"].routed_documents) == (7, 7)

    add(run, new="a new lake, to buy", brief="hi")
    source(run).update("id = 'plain-0'", {"body": "'buy it now, it is a bargain'"})
    source(run).update("id = 'plain-1'", {"lang": "'old'"})  # the text is the same: no model is asked
    source(run).delete("id IN ('plain-2', 'blank')")
    second = night(run, "night-2")
    tagged, filtered, routed = second.values()
    assert [done.full_scan for done in second.values()] == [False, False, False]
    assert (tagged.rows_in, tagged.tagged, tagged.retagged, tagged.tombstoned, tagged.documents) == (4, 3, 1, 2, 10)
    assert (filtered.rows_in, filtered.kept, filtered.rejected) == (4, 2, {"old": 1, "too_short": 1})
    assert (filtered.quarantined, filtered.documents) == (0, 10)
    assert (routed.rows_in, routed.routed) == (2, {"shop": 2, "water": 1, "unrouted": 0})
    assert filtered.inputs["source"].since == first["filter"].inputs["source"].until
    assert ids(run, "water") == {"plain-3", "plain-4", "plain-5", "shop", "new"}
    assert ids(run, "shop") == {"plain-0", "new", "shop"}
    assert (ids(run, "rejected"), ids(run, "quarantined")) == ({"plain-1", "short", "brief"}, {"null"})
    tombs = run.lake.read(run.spark, "tags").where("deleted_at IS NOT NULL").collect()
    assert {row["doc_id"]: (row["scores"], row["labels"]) for row in tombs} == {"plain-2": ({}, []), "blank": ({}, [])}

    fresh = replace(run, pipeline=pipeline_of({**config, "tables": "fresh"}, tmp_path))
    night(fresh, "other")
    assert tables(run) == near(tables(fresh))

    before = {name: run.lake.table(name).latest(run.spark) for name in ("tags", "kept", "rejected", "shop", "staged")}
    third = night(run, "night-3")
    assert [done.rows_in for done in third.values()] == [0, 0, 0]
    assert before == {name: run.lake.table(name).latest(run.spark) for name in before}

    # What was deleted comes back as it was: the tombstone is no answer.
    add(run, **{"plain-2": str(TEXTS["plain-2"])})
    assert tag_step(replace(run, run_id="night-4")).tagged == 1


def test_a_document_added_while_the_night_runs_waits_for_the_next(ran: PipelineRun) -> None:
    run = replace(ran, run_id="night-2")
    add(run, early="an early document on the lake")
    tag_step(run)
    add(run, late="a late document on the lake")
    done = filter_step(run)
    assert (done.rows_in, done.waiting) == (1, 0)
    assert ids(run, "kept") >= {"early"}
    assert "late" not in ids(run, "kept")
    route_step(run)
    second = night(run, "night-3")
    assert (second["tag"].tagged, second["filter"].rows_in, second["route"].rows_in) == (1, 1, 1)
    assert "late" in ids(run, "water")


def test_a_finished_job_that_is_run_again_under_its_id_does_nothing(
    ran: PipelineRun, first_night: tuple[Path, dict[str, Manifest]]
) -> None:
    add(ran, late="a late document on the lake")
    done = tag_step(ran)
    assert (done.sequence, done.tagged) == (1, len(TEXTS))
    assert done.finished_at == first_night[1]["tag"].finished_at


def test_changed_rules_take_back_what_they_no_longer_say(
    ran: PipelineRun, config: dict[str, Any], tmp_path: Path
) -> None:
    run = ran
    config["routes"] = [{"route": "water", "when": "body like '%lake%'"}]
    changed = replace(run, pipeline=pipeline_of(config, tmp_path))
    with pytest.raises(TableError, match=r"kept: no run has filtered by this label set and these rules"):
        route_step(replace(changed, run_id="night-2"))
    second = night(changed, "night-2")
    assert second["tag"].tagged == 0
    assert (second["filter"].full_scan, second["route"].full_scan) == (True, True)
    assert second["route"].message == "shop is no longer a destination; its rows were taken out"
    assert ids(run, "shop") == set()
    assert {row["rules_hash"] for row in tables(changed)["kept"].values()} == {changed.pipeline.rules.hash}


def test_rules_that_come_back_decide_again(ran: PipelineRun, config: dict[str, Any], tmp_path: Path) -> None:
    """The last success under these rules is no ground to build on: other rules have decided since."""
    without = replace(ran, pipeline=pipeline_of({**config, "reject": []}, tmp_path))
    night(without, "night-2")
    assert ids(ran, "rejected") == set()
    night(ran, "night-3")
    assert ids(ran, "rejected") == {"short"}


def test_a_new_model_tags_again_by_choice(
    ran: PipelineRun, config: dict[str, Any], tmp_path: Path, other_tiny_model: str
) -> None:
    run = ran
    add(run, new="a new lake, to buy")
    config["model"] = other_tiny_model
    changed = replace(run, pipeline=pipeline_of(config, tmp_path))
    none = tag_step(replace(changed, run_id="none", retag="none"))
    assert (none.tagged, none.retagged) == (1, 0)
    some = tag_step(replace(changed, run_id="changed"))
    assert (some.tagged, some.retagged) == (len(TEXTS), len(TEXTS))
    everything = tag_step(replace(changed, run_id="all", retag="all"))
    assert (everything.tagged, everything.retagged) == (len(TEXTS) + 1, len(TEXTS) + 1)
    config["label_set"] = ["lake"]
    with pytest.raises(
        TableError, match=r"no run has tagged with label set 'mail' as it is now .*run the tag job first"
    ):
        filter_step(replace(changed, run_id="asked", pipeline=pipeline_of({**config, "reject": []}, tmp_path)))


def test_scores_of_a_killed_run_are_not_asked_for_again(run: PipelineRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kill comes between the last slice and the merge, where it would cost most."""
    from gliclass_spark.spark.jobs import tag as tag_job

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tag_job, "check_errors", killed)
    with pytest.raises(KeyboardInterrupt):
        tag_step(run)
    assert not run.lake.exists(run.spark, "tags")
    monkeypatch.undo()
    source(run).update("id = 'plain-0'", {"body": "'changed since'"})
    done = tag_step(replace(run, run_id="night-2"))
    assert (done.tagged, done.tokens) == (len(TEXTS), done.tokens)
    assert done.texts_per_s is not None
    assert run.lake.read(run.spark, "tags").where("doc_id = 'plain-0' AND token_count = 2").count() == 1
    assert run.lake.read(run.spark, "staged").isEmpty()
    loads = [row["tagged_at"] for row in run.lake.read(run.spark, "tags").orderBy("tagged_at").collect()]
    assert loads[0] < loads[-1], "all but one were scored by the run that was killed"


UNREADABLE = {
    "no feed": "its change data feed was off",
    "vacuum": "vacuum removed its files",
    "another table": None,
}


@pytest.mark.parametrize(("what", "note"), UNREADABLE.items(), ids=UNREADABLE)
def test_a_feed_that_cannot_answer_means_looking_at_everything(ran: PipelineRun, what: str, note: str | None) -> None:
    run, spark, path = ran, ran.spark, str(ran.pipeline.source.path)
    if what == "no feed":
        spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES (delta.enableChangeDataFeed = false)")
    if what == "another table":
        rows = spark.read.format("delta").load(path).where("id != 'plain-5'").localCheckpoint()
        (Path(path) / "_delta_log").rename(Path(path).parent / "old_log")
        for _ in range(3):
            rows.limit(0).write.format("delta").mode("append").save(path)
        rows.write.format("delta").mode("append").option("mergeSchema", "true").save(path)
    add(run, new="a new lake, to buy")
    source(run).delete("id = 'plain-4'")
    if what == "vacuum":
        spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
        spark.sql(f"OPTIMIZE delta.`{path}`")
        source(run).vacuum(0)
        spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")
    done = tag_step(replace(run, run_id="night-2"))
    gone = {"plain-4", "plain-5"} if what == "another table" else {"plain-4"}
    assert (done.full_scan, done.tagged, done.tombstoned) == (True, 1, len(gone))
    assert note is None or note in str(done.message)
    assert set(tables_of_tags(run)) == {*TEXTS, "new"} - gone


def tables_of_tags(run: PipelineRun) -> dict[str, dict[str, Any]]:
    return said(run.lake.read(run.spark, "tags").where("deleted_at IS NULL"))


def test_ids_that_repeat_are_found_among_what_changed(ran: PipelineRun) -> None:
    run = ran
    add(run, **{"plain-0": "a second document of the same id"})
    with pytest.raises(TableError, match=r"ids of source.id 'id' repeat: 'plain-0' \(2 rows\)"):
        tag_step(replace(run, run_id="night-2"))
    [failed] = run.lake.read(run.spark, "runs").where("status = 'failed'").collect()
    assert "repeat: 'plain-0'" in failed["message"]
    source(run).delete("body like 'a second%'")
    assert tag_step(replace(run, run_id="night-3")).tagged == 0


def test_a_table_that_is_none_is_refused(run: PipelineRun) -> None:
    Path(run.lake.path("tags")).mkdir(parents=True)
    Path(run.lake.path("tags"), "notes.txt").write_text("mine")
    with pytest.raises(TableError, match=r"tags holds files, but is no Delta table"):
        tag_step(run)


def test_an_altered_lake_is_refused_or_mended(ran: PipelineRun) -> None:
    run, spark, lake = ran, ran.spark, ran.lake
    # Rows that someone took away are missed, and come back when everything is looked at.
    DeltaTable.forPath(spark, lake.path("kept")).delete("doc_id = 'plain-0'")
    add(run, new="a new lake, to buy")
    tag_step(replace(run, run_id="night-2"))
    with pytest.raises(ManifestError, match=r"expected 11 documents in .*, found 10; .*--full"):
        filter_step(replace(run, run_id="night-2"))
    mended = filter_step(replace(run, run_id="night-3", full=True))
    assert (mended.kept, mended.documents) == (8, 11)

    # A column that someone dropped is filled again, a table that someone removed is written again.
    spark.sql(f"ALTER TABLE delta.`{lake.path('kept')}` SET TBLPROPERTIES (delta.columnMapping.mode = 'name')")
    spark.sql(f"ALTER TABLE delta.`{lake.path('kept')}` DROP COLUMN lang")
    done = filter_step(replace(run, run_id="night-4"))
    assert (done.full_scan, done.message) == (True, "kept lacked lang: every document was decided about again")
    assert {row["lang"] for row in said(lake.read(spark, "kept")).values()} == {"xx"}

    spark.sql(f"ALTER TABLE delta.`{lake.path('rejected')}` ADD COLUMNS (comment string)")  # theirs: left alone
    assert filter_step(replace(run, run_id="night-5")).full_scan is False

    spark.sql(f"ALTER TABLE delta.`{lake.path('tags')}` SET TBLPROPERTIES (delta.columnMapping.mode = 'name')")
    spark.sql(f"ALTER TABLE delta.`{lake.path('tags')}` RENAME COLUMN token_count TO tokens")
    with pytest.raises(TableError, match=r"tags: expected a column 'token_count', found none; someone altered"):
        tag_step(replace(run, run_id="night-6"))


def test_tables_refuse_what_is_no_probability(ran: PipelineRun) -> None:
    run = ran
    bad = (
        run.lake.read(run.spark, "tags")
        .limit(1)
        .selectExpr("'bad' AS doc_id", "* EXCEPT (doc_id, scores)", "map('spam', CAST(1.5 AS FLOAT)) AS scores")
    )
    with pytest.raises(Exception, match="scores_are_probabilities"):
        bad.write.format("delta").mode("append").save(run.lake.path("tags"))


def test_two_runs_at_once_the_later_one_wins_and_the_earlier_one_says_so(ran: PipelineRun) -> None:
    """The earlier run is alive, and slow: it writes after the later one has finished."""
    run = ran
    add(run, new="a new lake, to buy")
    message = r"run 'early' of tag was superseded by run 'late', which does all of its work"
    with claimed_job(replace(run, run_id="early"), "tag", "", run.runs.recent()) as early:
        assert tag_step(replace(run, run_id="late")).tagged == 1
        early.commit("tags", partial(delete_rows, run.spark))
        with pytest.raises(SupersededError, match=message):
            early.succeed()
    rows = run.lake.read(run.spark, "runs").where("sequence > 1 AND status != 'running'").collect()
    assert [(row["run_id"], row["status"]) for row in rows] == [("late", "succeeded")]
    assert len(tables_of_tags(run)) == len(TEXTS) + 1


def test_a_disk_that_fills_up_is_one_clear_error_and_the_night_is_finished_later(
    run: PipelineRun, small_disk: Path
) -> None:
    """The lake stands on a disk with no room for the scores."""
    small = replace(run, pipeline=run.pipeline.model_copy(update={"tables": str(small_disk / "lake")}))
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * (small_disk_free(small_disk) - 40_000))
    with pytest.raises(JobError, match=r"tag of pipeline 'mail' failed: .*No space left on device.*run again"):
        tag_step(small)
    ballast.unlink()
    assert tag_step(replace(small, run_id="night-2")).tagged == len(TEXTS)


def small_disk_free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["/bin/umount", "-l", str(folder)], check=True)
