"""Changes of a Delta table between two versions."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession

from gliclass_spark.runs.manifest import VersionRange
from gliclass_spark.spark.delta.change_feed import Changes, read_changes
from gliclass_spark.spark.delta.table_ref import TableRef


@pytest.fixture(scope="module")
def table(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> TableRef:
    """A table that gains, changes, loses and regains rows, one commit each."""
    path = str(tmp_path_factory.mktemp("changes") / "documents")

    def rows(*ids: str) -> DataFrame:
        return spark.createDataFrame([(name, f"text {name}") for name in ids], "doc_id string, body string")

    rows("a", "b").write.format("delta").option("delta.enableChangeDataFeed", "true").save(path)
    rows("c").write.format("delta").mode("append").save(path)
    table = TableRef(path=path)
    table.handle(spark).update("doc_id = 'a'", {"body": "'new'"})
    table.handle(spark).delete("doc_id = 'b'")
    rows("b").write.format("delta").mode("append").save(path)
    return table


@pytest.mark.parametrize(
    ("since", "until", "changed", "deleted", "only_new"),
    [
        (0, 0, [], [], True),
        (0, 1, ["c"], [], True),
        (1, 2, ["a"], [], False),
        (2, 3, [], ["b"], False),
        (3, 4, ["b"], [], True),
        (2, 4, ["b"], [], False),
        (0, 4, ["a", "b", "c"], [], False),
    ],
    ids=["nothing", "inserted", "updated", "deleted", "inserted again", "deleted and inserted again", "all"],
)
def test_keys_are_new_if_the_table_had_none_of_them_before(
    spark: SparkSession,
    table: TableRef,
    since: int,
    until: int,
    changed: list[str],
    deleted: list[str],
    only_new: bool,
) -> None:
    changes = _changes(spark, table, since, until)
    assert sorted(row["doc_id"] for row in changes.rows.collect()) == changed
    assert [row["doc_id"] for row in changes.deleted.collect()] == deleted
    assert (changes.full_scan, changes.only_new) == (False, only_new)
    if changes.cached is not None:
        changes.cached.unpersist()


def _changes(spark: SparkSession, table: TableRef, since: int, until: int) -> Changes:
    table_id = table.latest(spark).table_id
    base, current = VersionRange(table_id, None, since), VersionRange(table_id, None, until)
    return read_changes(spark, table, base, table.commit_id(spark, since), current, lambda rows, _: rows)
