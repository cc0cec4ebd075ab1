"""A commit happens once, in its run's turn, beside other writers."""

from __future__ import annotations

import threading
from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from gliclass_spark.spark.commits import Commits, conflicts_retried


def counter(spark: SparkSession, path: Path) -> str:
    spark.createDataFrame([("a", 0)], "doc_id string, n int").coalesce(1).write.format("delta").save(str(path))
    return str(path)


def test_promise_4_a_superseded_run_cannot_write(spark: SparkSession, tmp_path: Path) -> None:
    path = counter(spark, tmp_path / "counter")
    early, late = (Commits(spark, "mail/tag", sequence) for sequence in (1, 2))

    def increase() -> None:
        DeltaTable.forPath(spark, path).update(set={"n": "n + 1"})

    early.commit(path, increase)
    late.commit(path, increase)
    early.commit(path, increase)  # left out by Delta
    late.commit(path, increase)
    assert [row["n"] for row in spark.read.format("delta").load(path).collect()] == [3]


def test_writers_in_conflict_all_get_their_turn(spark: SparkSession, tmp_path: Path) -> None:
    path = counter(spark, tmp_path / "counter")
    failures: list[BaseException] = []

    def increase_twice() -> None:
        try:
            for _ in range(2):
                conflicts_retried(lambda: DeltaTable.forPath(spark, path).update(set={"n": "n + 1"}), path)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=increase_twice) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert [row["n"] for row in spark.read.format("delta").load(path).collect()] == [6]
