"""Incremental runs: only changes are read, and the tables end as after a full scan."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from delta.tables import DeltaTable
from delta_pipeline import run_all, source
from incremental_pipeline import TEXTS, add, create_mail, mail_run
from pyspark import SparkContext
from pyspark.sql import Row, SparkSession
from pyspark.testing import assertDataFrameEqual
from stored_tables import stored_rows

from gliclass_spark.errors import ManifestError, SupersededError, TableError
from gliclass_spark.runs.delta_reader import delta_table
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.jobs import PipelineRun, filter_step, route_step, tag_step
from gliclass_spark.spark.jobs.decision_tables import DecisionTables
from gliclass_spark.spark.jobs.job_run import claimed_job
from gliclass_spark.spark.jobs.tag_steps import scoring_queue
from gliclass_spark.spark.transforms.filtering import OUTCOMES
from gliclass_spark.spark.worker.usage_meter import Meter

LINEAGE = ("run_id", "tagged_at", "deleted_at")


@pytest.fixture(scope="module")
def first_run(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Manifest]]:
    """A folder in which a pipeline has run once, and the manifests of the run. Tests copy it."""
    folder = tmp_path_factory.mktemp("first_run")
    create_mail(spark, folder)
    return folder, run_all(mail_run(spark, folder, tiny_bi_encoder), "run-1")


@pytest.fixture
def ran(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, first_run: tuple[Path, dict[str, Manifest]]
) -> PipelineRun:
    """The pipeline after its first run, in a folder of its own."""
    for name in ("mail", "lake"):
        shutil.copytree(first_run[0] / name, tmp_path / name)
    return mail_run(spark, tmp_path, tiny_bi_encoder)


def rows_of(run: PipelineRun, name: str) -> list[Row]:
    """Return the rows of a table that are not deleted, without the columns about the run that wrote them."""
    rows = stored_rows(run.lake.path(name))
    live = [row for row in rows if row.get("deleted_at") is None]
    return [Row(**{column: value for column, value in row.items() if column not in LINEAGE}) for row in live]


def rows_by_id(run: PipelineRun, name: str) -> dict[str, Row]:
    rows = rows_of(run, name)
    by_id = {row["doc_id"]: row for row in rows}
    assert len(by_id) == len(rows), "a document has two rows"
    return by_id


def assert_same_tables(run: PipelineRun, expected: PipelineRun) -> None:
    """Compare all tables, without the columns about runs; scores of other batches may differ as promise 1 allows."""
    for name in ("kept", "rejected", "quarantined", *run.pipeline.rules.destinations, "tags"):
        columns = [delta_table(f"{each.pipeline.tables}/{name}").schema().fields for each in (run, expected)]
        assert [(field.name, field.type) for field in columns[0]] == [(field.name, field.type) for field in columns[1]]
        assertDataFrameEqual(rows_of(run, name), rows_of(expected, name), rtol=0, atol=1e-5)


def ids(run: PipelineRun, name: str) -> set[str]:
    return set(rows_by_id(run, name))


def test_a_run_of_new_documents_reads_no_earlier_document_or_decision(ran: PipelineRun) -> None:
    # Not to count them, either: a lake of years is not read every night for a few new documents.
    decided = ("kept", "rejected", "quarantined", *ran.pipeline.rules.destinations)
    folders = [Path(str(ran.pipeline.source.path)), *(Path(ran.lake.path(name)) for name in decided)]
    for file in (file for folder in folders for file in folder.glob("**/*.parquet")):
        file.unlink()
    add(ran, new="a new lake, to buy", brief="hi")
    tagged, filtered, routed = run_all(ran, "run-2").values()
    assert (tagged.tagged, tagged.documents, sum(tagged.score_histograms["spam"])) == (2, 12, 2)
    assert (filtered.kept, filtered.rejected, filtered.quarantined, filtered.documents) == (1, {"too_short": 1}, 0, 12)
    assert filtered.table_rows == {"kept": 8, "rejected": 2, "quarantined": 2}
    assert (routed.routed, routed.routed_documents) == ({"shop": 1, "water": 1, "unrouted": 0}, 1)
    assert routed.table_rows == {"shop": 2, "water": 8, "unrouted": 0}


def test_promise_4_an_incremental_run_ends_with_the_tables_of_a_full_scan(
    ran: PipelineRun, first_run: tuple[Path, dict[str, Manifest]], tiny_bi_encoder: str, tmp_path: Path
) -> None:
    run, first = ran, first_run[1]
    assert [done.full_scan for done in first.values()] == [True, True, True]
    assert first["route"].routed == {"shop": 1, "water": 7, "unrouted": 0}
    assert (first["route"].rows_in, first["route"].routed_documents) == (7, 7)

    add(run, new="a new lake, to buy", brief="hi")
    source(run).update("id = 'plain-0'", {"body": "'buy it now, it is a bargain'"})
    source(run).update("id = 'plain-1'", {"lang": "'old'"})  # the text is the same: it is not scored again
    source(run).delete("id IN ('plain-2', 'blank')")
    second = run_all(run, "run-2")
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
    tombstones = stored_rows(run.lake.path("tags"), "deleted_at IS NOT NULL")
    deleted = {row["doc_id"]: (row["scores"], row["labels"]) for row in tombstones}
    assert deleted == dict.fromkeys(("plain-2", "blank"), ({}, []))

    fresh = mail_run(run.spark, tmp_path, tiny_bi_encoder, tables="fresh")
    run_all(fresh, "other")
    assert_same_tables(run, fresh)

    before = {name: run.lake.table(name).latest(run.spark) for name in ("tags", "kept", "rejected", "shop")}
    third = run_all(run, "run-3")
    assert [done.rows_in for done in third.values()] == [0, 0, 0]
    assert before == {name: run.lake.table(name).latest(run.spark) for name in before}
    assert not run.lake.exists(run.spark, "staged"), "what fits one slice is merged without a commit before"

    # A deleted document that comes back unchanged is scored again: a tombstone has no scores.
    add(run, **{"plain-2": str(TEXTS["plain-2"])})
    assert tag_step(replace(run, run_id="run-4")).tagged == 1


def test_each_changed_text_is_scored_once(
    ran: PipelineRun, tmp_path: Path, tiny_bi_encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    meters: list[Meter] = []

    class Kept(Meter):
        def __init__(self, context: SparkContext) -> None:
            super().__init__(context)
            meters.append(self)

    monkeypatch.setattr(scoring_queue, "Meter", Kept)
    run = mail_run(ran.spark, tmp_path, tiny_bi_encoder, exploration=0.5)
    source(run).update("id like 'plain%'", {"body": "concat(body, ' of text')"})
    assert tag_step(replace(run, run_id="run-2")).retagged == 6
    assert [meter.total.usage.texts for meter in meters] == [6]
    assert tag_step(replace(run, run_id="run-3", retag="all")).tagged == 10
    assert [meter.total.usage.texts for meter in meters] == [6, 10]


@pytest.mark.long
def test_a_document_added_during_a_run_waits_for_the_next(ran: PipelineRun) -> None:
    run = replace(ran, run_id="run-2")
    add(run, early="an early document on the lake")
    tag_step(run)
    add(run, late="a late document on the lake")
    done = filter_step(run)
    assert (done.rows_in, done.waiting) == (1, 0)
    assert ids(run, "kept") >= {"early"}
    assert "late" not in ids(run, "kept")
    route_step(run)
    second = run_all(run, "run-3")
    assert (second["tag"].tagged, second["filter"].rows_in, second["route"].rows_in) == (1, 1, 1)
    assert "late" in ids(run, "water")


def test_a_finished_job_that_runs_again_under_its_id_does_nothing(
    ran: PipelineRun, first_run: tuple[Path, dict[str, Manifest]]
) -> None:
    add(ran, late="a late document on the lake")
    done = tag_step(ran)
    assert (done.sequence, done.tagged) == (1, len(TEXTS))
    assert done.finished_at == first_run[1]["tag"].finished_at


@pytest.mark.long
def test_changed_rules_decide_about_all_documents_and_empty_former_destinations(
    ran: PipelineRun, tiny_bi_encoder: str, tmp_path: Path
) -> None:
    run = ran
    changed = mail_run(run.spark, tmp_path, tiny_bi_encoder, routes=[{"route": "water", "when": "body like '%lake%'"}])
    with pytest.raises(TableError, match=r"kept: the last filter job did not use this label set and these rules"):
        route_step(replace(changed, run_id="run-2"))
    second = run_all(changed, "run-2")
    assert second["tag"].tagged == 0
    assert (second["filter"].full_scan, second["route"].full_scan) == (True, True)
    assert second["route"].message == "shop is no longer a destination; its rows were taken out"
    assert ids(run, "shop") == set()
    kept = rows_by_id(changed, "kept")
    assert {row["rules_hash"] for row in kept.values()} == {changed.pipeline.rules.hash}


@pytest.mark.long
def test_rules_that_are_restored_decide_again(ran: PipelineRun, tiny_bi_encoder: str, tmp_path: Path) -> None:
    """The last success with these rules is no base: other rules have decided since."""
    without = mail_run(ran.spark, tmp_path, tiny_bi_encoder, reject=[])
    run_all(without, "run-2")
    assert ids(ran, "rejected") == set()
    run_all(ran, "run-3")
    assert ids(ran, "rejected") == {"short"}


@pytest.mark.long
def test_a_new_model_tags_again_by_choice(ran: PipelineRun, tmp_path: Path, other_tiny_model: str) -> None:
    run = ran
    add(run, new="a new lake, to buy")
    changed = mail_run(run.spark, tmp_path, other_tiny_model)
    none = tag_step(replace(changed, run_id="none", retag="none"))
    assert (none.tagged, none.retagged) == (1, 0)
    some = tag_step(replace(changed, run_id="changed"))
    assert (some.tagged, some.retagged) == (len(TEXTS), len(TEXTS))
    everything = tag_step(replace(changed, run_id="all", retag="all"))
    assert (everything.tagged, everything.retagged) == (len(TEXTS) + 1, len(TEXTS) + 1)
    narrow = mail_run(run.spark, tmp_path, other_tiny_model, label_set=["lake"], reject=[])
    with pytest.raises(
        TableError, match=r"the last tag job did not use label set 'mail' as it is now .*run the tag job first"
    ):
        filter_step(replace(narrow, run_id="filter"))


UNREADABLE = {
    "no feed": "its change data feed was off",
    "vacuum": "vacuum removed its files",
    "another table": None,
}


@pytest.mark.parametrize(
    ("cause", "note"),
    [
        pytest.param(cause, note, id=cause, marks=() if cause == "vacuum" else pytest.mark.long)
        for cause, note in UNREADABLE.items()
    ],
)
def test_a_feed_that_cannot_be_read_causes_a_full_scan(ran: PipelineRun, cause: str, note: str | None) -> None:
    run, spark, path = ran, ran.spark, str(ran.pipeline.source.path)
    if cause == "no feed":
        spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES (delta.enableChangeDataFeed = false)")
    if cause == "another table":
        rows = spark.read.format("delta").load(path).where("id != 'plain-5'").localCheckpoint()
        (Path(path) / "_delta_log").rename(Path(path).parent / "old_log")
        for _ in range(3):
            rows.limit(0).write.format("delta").mode("append").save(path)
        rows.write.format("delta").mode("append").option("mergeSchema", "true").save(path)
    add(run, new="a new lake, to buy")
    source(run).delete("id = 'plain-4'")
    if cause == "vacuum":
        spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
        spark.sql(f"OPTIMIZE delta.`{path}`")
        source(run).vacuum(0)
        spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")
    done = tag_step(replace(run, run_id="run-2"))
    deleted = {"plain-4", "plain-5"} if cause == "another table" else {"plain-4"}
    assert (done.full_scan, done.tagged, done.tombstoned) == (True, 1, len(deleted))
    assert note is None or note in str(done.message)
    assert ids(run, "tags") == {*TEXTS, "new"} - deleted


def test_repeated_ids_among_changed_documents_are_refused(ran: PipelineRun) -> None:
    run = ran
    add(run, **{"plain-0": "a second document of the same id"})
    with pytest.raises(TableError, match=r"ids of source.id 'id' repeat: 'plain-0' \(2 rows\)"):
        tag_step(replace(run, run_id="run-2"))
    [failed] = stored_rows(run.lake.path("runs"), "status = 'failed'")
    assert "repeat: 'plain-0'" in failed["message"]
    source(run).delete("body like 'a second%'")
    assert tag_step(replace(run, run_id="run-3")).tagged == 0


@pytest.fixture
def undecided(ran: PipelineRun) -> PipelineRun:
    """The pipeline without the tables of its filter job, which creates them again."""
    for name in OUTCOMES:
        shutil.rmtree(ran.lake.path(name))
    return replace(ran, run_id="run-2", full=True)


def after_write(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Call `change` when a job has written its decisions, before it counts what the tables hold."""
    write = DecisionTables.write

    def write_and_change(tables: DecisionTables, *arguments: Any, **options: Any) -> None:
        write(tables, *arguments, **options)
        change()

    monkeypatch.setattr(DecisionTables, "write", write_and_change)


def test_a_job_reads_no_row_of_the_tables_that_it_has_created(
    undecided: PipelineRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [Path(undecided.lake.path(name)) for name in OUTCOMES]
    after_write(monkeypatch, lambda: [file.unlink() for folder in folders for file in folder.glob("**/*.parquet")])
    done = filter_step(undecided)
    assert (done.kept, done.rejected, done.quarantined, done.documents) == (7, {"too_short": 1}, 2, 10)
    assert done.table_rows == {"kept": 7, "rejected": 1, "quarantined": 2}


def test_another_writer_s_change_of_tables_that_a_job_has_created_is_an_error(
    undecided: PipelineRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = undecided.lake.path("kept")
    after_write(monkeypatch, lambda: DeltaTable.forPath(undecided.spark, kept).delete("doc_id = 'plain-0'"))
    with pytest.raises(ManifestError, match=r"expected rows by table .*'kept': 7, .* found .*'kept': 6"):
        filter_step(undecided)


@pytest.mark.long
def test_an_altered_lake_is_refused_or_repaired(ran: PipelineRun) -> None:
    run, spark, lake = ran, ran.spark, ran.lake
    # Rows that someone deleted are missed in the counts, and come back in a full scan.
    DeltaTable.forPath(spark, lake.path("kept")).delete("doc_id = 'plain-0'")
    add(run, new="a new lake, to buy")
    tag_step(replace(run, run_id="run-2"))
    with pytest.raises(ManifestError, match=r"expected rows by table {'kept': 8, .* found {'kept': 7, .*--full"):
        filter_step(replace(run, run_id="run-2"))
    repaired = filter_step(replace(run, run_id="run-3", full=True))
    assert (repaired.kept, repaired.documents) == (8, 11)

    # A column that someone dropped is filled again.
    spark.sql(f"ALTER TABLE delta.`{lake.path('kept')}` SET TBLPROPERTIES (delta.columnMapping.mode = 'name')")
    spark.sql(f"ALTER TABLE delta.`{lake.path('kept')}` DROP COLUMN lang")
    done = filter_step(replace(run, run_id="run-4"))
    assert (done.full_scan, done.message) == (True, "kept lacked lang: every document was decided about again")
    assert {row["lang"] for row in stored_rows(lake.path("kept"))} == {"xx"}

    spark.sql(f"ALTER TABLE delta.`{lake.path('rejected')}` ADD COLUMNS (comment string)")  # a column of others stays
    assert filter_step(replace(run, run_id="run-5")).full_scan is False

    spark.sql(f"ALTER TABLE delta.`{lake.path('tags')}` SET TBLPROPERTIES (delta.columnMapping.mode = 'name')")
    spark.sql(f"ALTER TABLE delta.`{lake.path('tags')}` RENAME COLUMN token_count TO tokens")
    with pytest.raises(TableError, match=r"tags: expected a column 'token_count', found none; someone altered"):
        tag_step(replace(run, run_id="run-6"))


def test_tags_refuse_scores_that_are_no_probabilities(ran: PipelineRun) -> None:
    run = ran
    bad = (
        run.lake.read(run.spark, "tags")
        .limit(1)
        .selectExpr("'bad' AS doc_id", "* EXCEPT (doc_id, scores)", "map('spam', CAST(1.5 AS FLOAT)) AS scores")
    )
    with pytest.raises(Exception, match="scores_are_probabilities"):
        bad.write.format("delta").mode("append").save(run.lake.path("tags"))


def test_of_two_concurrent_runs_the_later_wins_and_the_earlier_raises(ran: PipelineRun) -> None:
    """The earlier run is slow: it writes after the later one has finished."""
    run = ran
    add(run, new="a new lake, to buy")
    message = r"run 'early' of tag was superseded by run 'late', which does all of its work"
    with claimed_job(replace(run, run_id="early"), "tag", "", run.runs.recent()) as early:
        assert tag_step(replace(run, run_id="late")).tagged == 1
        early.change("tags", DeltaTable.delete)
        with pytest.raises(SupersededError, match=message):
            early.succeed()
    rows = stored_rows(run.lake.path("runs"), "sequence > 1 AND status != 'running'")
    assert [(row["run_id"], row["status"]) for row in rows] == [("late", "succeeded")]
    assert len(ids(run, "tags")) == len(TEXTS) + 1
