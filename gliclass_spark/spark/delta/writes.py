"""Idempotent writes to Delta tables: append, upsert, replace rows, tombstones. Each is one commit."""

from __future__ import annotations

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import MapType

from gliclass_spark.spark.delta.schema import KEY

# Columns about the write itself: a row that differs in these alone is not written again.
_WRITE_COLUMNS = ("run_id", "tagged_at")


def append(rows: DataFrame, path: str) -> None:
    """Append rows to the Delta table."""
    rows.write.format("delta").mode("append").save(path)


def upsert(rows: DataFrame, key: tuple[str, ...], path: str) -> None:
    """Insert rows into the Delta table; existing rows with the same key are updated."""
    same_key = " AND ".join(f"t.{column} = s.{column}" for column in key)
    merge = DeltaTable.forPath(rows.sparkSession, path).alias("t").merge(rows.alias("s"), same_key)
    merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()


def insert_new(rows: DataFrame, key: tuple[str, ...], path: str) -> None:
    """Insert the rows whose key the Delta table does not have."""
    same_key = " AND ".join(f"t.{column} = s.{column}" for column in key)
    merge = DeltaTable.forPath(rows.sparkSession, path).alias("t").merge(rows.alias("s"), same_key)
    merge.whenNotMatchedInsertAll().execute()


def replace_rows(rows: DataFrame, keys: DataFrame | None, path: str) -> None:
    """Replace the table's rows of the documents `keys` (None: of all documents) with `rows`.

    Equal rows are not written again, so that a second attempt, or one after a kill, changes nothing. With
    `keys`, `rows` must have a column rules_hash without nulls.
    """
    table = DeltaTable.forPath(rows.sparkSession, path)
    changed = _row_differs(rows, table.toDF())
    source = rows if keys is None else keys.join(rows, KEY, "left")
    merge = table.alias("t").merge(source.alias("s"), f"t.{KEY} = s.{KEY}").withSchemaEvolution()
    if keys is None:
        merge = merge.whenMatchedUpdateAll(condition=changed).whenNotMatchedInsertAll()
        merge.whenNotMatchedBySourceDelete().execute()
    else:
        merge = merge.whenMatchedDelete(condition="s.rules_hash IS NULL").whenMatchedUpdateAll(condition=changed)
        merge.whenNotMatchedInsertAll(condition="s.rules_hash IS NOT NULL").execute()


def differs(spark: SparkSession, path: str, rows: DataFrame) -> bool:
    """Return whether replacing all rows of the Delta table with `rows` would change it."""
    current = DeltaTable.forPath(spark, path).toDF()
    joined = rows.alias("s").join(current.alias("t"), F.col(f"s.{KEY}") == F.col(f"t.{KEY}"), "full_outer")
    one_sided = F.col(f"s.{KEY}").isNull() | F.col(f"t.{KEY}").isNull()
    return not joined.where(one_sided | _row_differs(rows, current)).isEmpty()


def write_tombstones(deleted: DataFrame, run_id: str, path: str) -> None:
    """Turn the tags of deleted documents into tombstones: no scores, no labels, and the time of the deletion."""
    table = DeltaTable.forPath(deleted.sparkSession, path)
    merge = table.alias("t").merge(deleted.alias("s"), f"t.{KEY} = s.{KEY}")
    tombstone: dict[str, str | Column] = {
        "scores": "CAST(map() AS MAP<STRING, FLOAT>)",
        "labels": "CAST(array() AS ARRAY<STRING>)",
        "explored": "CAST(NULL AS BOOLEAN)",
        "propensities": "CAST(NULL AS MAP<STRING, DOUBLE>)",
        "run_id": F.lit(run_id),
        "deleted_at": "current_timestamp()",
    }
    merge.whenMatchedUpdate(condition="t.deleted_at IS NULL", set=tombstone).execute()


def delete_rows(spark: SparkSession, path: str, condition: str | None = None) -> None:
    """Delete the rows that meet the condition (None: all rows) from the Delta table."""
    DeltaTable.forPath(spark, path).delete(condition)


def _row_differs(rows: DataFrame, current: DataFrame) -> Column:
    """Return whether rows `s` and `t` differ, apart from columns about the write.

    Spark can't compare maps; the scores follow from the other columns.
    """
    current_names = {name.lower() for name in current.columns}
    compared = [
        field.name
        for field in rows.schema
        if field.name not in _WRITE_COLUMNS and not isinstance(field.dataType, MapType)
    ]
    differs = F.lit(any(name.lower() not in current_names for name in compared))
    for name in compared:
        if name.lower() in current_names:
            column = f"`{name.replace('`', '``')}`"
            differs = differs | ~F.col(f"s.{column}").eqNullSafe(F.col(f"t.{column}"))
    return differs
