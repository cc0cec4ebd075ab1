"""Exactly-once commits beside other writers, and the creation of tables after a kill."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from gliclass_spark.errors import TableError
from gliclass_spark.spark.delta import table_creation
from gliclass_spark.spark.delta.commits import Commits, retry_conflicts
from gliclass_spark.spark.delta.file_system import is_on_local_disk
from gliclass_spark.spark.delta.schema import TAGS, TAGS_SPEC
from gliclass_spark.spark.delta.table_creation import ensure, missing_columns
from gliclass_spark.spark.delta.table_ref import TableRef


def counter(spark: SparkSession, path: Path) -> TableRef:
    spark.createDataFrame([("a", 0)], "doc_id string, n int").coalesce(1).write.format("delta").save(str(path))
    return TableRef(path=str(path))


def test_promise_4_a_superseded_run_cannot_write(spark: SparkSession, tmp_path: Path) -> None:
    table = counter(spark, tmp_path / "counter")
    early, late = (Commits(spark, "mail/tag", sequence) for sequence in (1, 2))

    def increase(counts: DeltaTable) -> None:
        counts.update(set={"n": "n + 1"})

    early.change(table, increase)
    late.change(table, increase)
    early.change(table, increase)  # skipped by Delta
    early.append(table.read(spark, None), table)  # this, too
    late.change(table, increase)
    assert [row["n"] for row in table.read(spark, None).collect()] == [3]


def test_promise_4_a_fence_locks_earlier_runs_out_of_a_table_that_does_not_change(
    spark: SparkSession, tmp_path: Path
) -> None:
    table = counter(spark, tmp_path / "counter")
    early, late = (Commits(spark, "mail/tag", sequence) for sequence in (1, 2))
    late.fence(table)
    early.change(table, lambda rows: rows.delete())
    early.overwrite(table.read(spark, None).drop("n"), table)
    assert [row.asDict() for row in table.read(spark, None).collect()] == [{"doc_id": "a", "n": 0}]


def test_conflicting_writers_all_commit(spark: SparkSession, tmp_path: Path) -> None:
    table = counter(spark, tmp_path / "counter")
    failures: list[BaseException] = []

    def increase_twice() -> None:
        try:
            for _ in range(2):
                retry_conflicts(lambda: table.handle(spark).update(set={"n": "n + 1"}), table.name)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=increase_twice) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert [row["n"] for row in table.read(spark, None).collect()] == [6]


def test_a_path_without_a_scheme_is_on_local_disk_unless_hadoop_has_another_default(
    spark: SparkSession, tmp_path: Path
) -> None:
    assert is_on_local_disk(spark, str(tmp_path))
    assert not is_on_local_disk(spark, "s3a://bucket/lake")
    spark.conf.set("fs.defaultFS", "hdfs://namenode:8020")
    try:
        assert not is_on_local_disk(spark, "/data/lake")
    finally:
        spark.conf.unset("fs.defaultFS")


def unfinished(table: Path) -> Path:
    """Return the folder of a table whose creation was killed."""
    log = table / "_delta_log"
    (log / "_staged_commits").mkdir(parents=True)
    (log / ".00000000000000000000.json.4f1c.tmp").write_text('{"commitInfo":')
    return table


def test_promise_4_a_table_whose_creation_was_killed_is_created(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(table_creation, "_CREATION_TIMEOUT_S", 0.5)
    table = TableRef(path=str(unfinished(tmp_path / "tags")))
    assert missing_columns(spark, table, TAGS) == ()
    assert ensure(spark, table, TAGS_SPEC) == ()
    assert table.read(spark, None).columns == TAGS.names
    assert f"{table.path}: a run was killed while it created this table" in caplog.text


def test_a_table_is_created_with_its_constraints_in_one_commit_and_gets_those_that_it_lacks(
    spark: SparkSession, tmp_path: Path
) -> None:
    constraints = {f"delta.constraints.{name}" for name in TAGS_SPEC.constraints}
    created, earlier = (TableRef(path=str(tmp_path / name)) for name in ("created", "earlier"))
    ensure(spark, created, TAGS_SPEC)
    assert created.latest(spark).until == 0
    assert constraints <= created.property_names(spark)
    ensure(spark, earlier, replace(TAGS_SPEC, constraints={}))
    assert not constraints & earlier.property_names(spark)
    ensure(spark, earlier, TAGS_SPEC)
    assert constraints <= earlier.property_names(spark)


def test_a_table_that_another_run_is_creating_is_waited_for(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_creation, "_CREATION_TIMEOUT_S", 120.0)  # however slow the other one is
    ensure(spark, TableRef(path=str(tmp_path / "other")), TAGS_SPEC)
    [expected] = DeltaTable.forPath(spark, str(tmp_path / "other")).detail().select("id").collect()
    log = unfinished(tmp_path / "tags") / "_delta_log"
    commit = "00000000000000000000.json"
    shutil.copy(tmp_path / "other" / "_delta_log" / commit, tmp_path / commit)
    other_run = threading.Timer(1.0, os.replace, (tmp_path / commit, log / commit))
    other_run.start()
    ensure(spark, TableRef(path=str(tmp_path / "tags")), TAGS_SPEC)
    other_run.join()
    [created] = DeltaTable.forPath(spark, str(tmp_path / "tags")).detail().select("id").collect()
    assert created == expected


@pytest.mark.parametrize("name", ["notes.txt", ".notes", "_staged_commits_of_others", "_staged_commits/00000001.json"])
def test_a_log_with_any_other_file_is_not_removed(name: str, spark: SparkSession, tmp_path: Path) -> None:
    note = unfinished(tmp_path / "tags") / "_delta_log" / name
    note.write_text("a note")
    with pytest.raises(TableError, match="tags holds files, but is no Delta table"):
        ensure(spark, TableRef(path=str(tmp_path / "tags")), TAGS_SPEC)
    assert note.exists()


def test_properties_of_any_name_are_set_once(spark: SparkSession, tmp_path: Path) -> None:
    """Spark redacts values of some names where it shows properties."""
    table = TableRef(path=str(tmp_path / "tags"))
    spec = replace(TAGS_SPEC, settings={"team.docs_url": "https://example.com", "team.token_owner": "lake"})
    ensure(spark, table, spec)
    version = table.latest(spark).until
    ensure(spark, table, spec)
    assert table.latest(spark).until == version
