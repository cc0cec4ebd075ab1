"""Idempotent changes of Delta tables: upsert, replace rows, tombstones. Each is one commit."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import ArrayType, DataType, MapType, StructType, VariantType

from gliclass_spark.spark.delta.column_names import column
from gliclass_spark.spark.delta.ddl import literal
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.delta.table_ref import TableRef

# Columns about the write itself, and those that follow from the others: a row that differs in these alone is not
# written again.
_NOT_COMPARED = ("run_id", "tagged_at", "scores", "propensities")
_JSON_OPTIONS = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}


def current_time() -> Column:
    """Return the current time as a literal, for rows that are cached and then merged.

    In the source of a MERGE Delta replaces `current_timestamp()`. Spark no longer recognises the cached query then, and
    computes it anew: each text would be scored twice.
    """
    return F.lit(datetime.now(UTC))


def upsert(table: DeltaTable, rows: DataFrame, key: tuple[str, ...]) -> None:
    """Insert rows into the Delta table; existing rows with the same key are updated."""
    merge = table.alias("t").merge(rows.alias("s"), _same(key))
    merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()


def replace_selected(table: DeltaTable, rows: DataFrame, selected: Mapping[str, str]) -> None:
    """Replace the table's rows that have these values in these columns with `rows`, one of each document, which have
    them, too.
    """
    keys = (KEY, *selected)
    of_selection = " AND ".join(f"t.{name} = {literal(value)}" for name, value in selected.items())
    merge = table.alias("t").merge(rows.alias("s"), _same(keys))
    merge = merge.whenMatchedUpdateAll().whenNotMatchedInsertAll()
    merge.whenNotMatchedBySourceDelete(condition=of_selection).execute()


def insert_new(table: DeltaTable, rows: DataFrame, key: tuple[str, ...]) -> None:
    """Insert the rows whose key the Delta table does not have; null equals null."""
    same = " AND ".join(f"t.{name} <=> s.{name}" for name in key)
    table.alias("t").merge(rows.alias("s"), same).whenNotMatchedInsertAll().execute()


def replace_rows(table: DeltaTable, rows: DataFrame, keys: DataFrame | None) -> None:
    """Replace the table's rows of the documents `keys` (None: of all documents) with `rows`.

    Columns and nested fields that the table lacks are added in the same commit. Equal rows are not written
    again, so that a second attempt, or one after a kill, changes nothing. With `keys`, `rows` must have a
    column rules_hash without nulls.
    """
    changed = _row_differs(rows, table.toDF())
    source = rows if keys is None else keys.join(rows, KEY, "left")
    merge = table.alias("t").merge(source.alias("s"), _same((KEY,))).withSchemaEvolution()
    if keys is None:
        merge = merge.whenMatchedUpdateAll(condition=changed).whenNotMatchedInsertAll()
        merge.whenNotMatchedBySourceDelete().execute()
    else:
        merge = merge.whenMatchedDelete(condition="s.rules_hash IS NULL").whenMatchedUpdateAll(condition=changed)
        merge.whenNotMatchedInsertAll(condition="s.rules_hash IS NOT NULL").execute()


def differs(spark: SparkSession, table: TableRef, rows: DataFrame) -> bool:
    """Return whether replacing all rows of the Delta table with `rows` would change it."""
    current = table.read(spark, None)
    joined = rows.alias("s").join(current.alias("t"), F.col(f"s.{KEY}") == F.col(f"t.{KEY}"), "full_outer")
    one_sided = F.col(f"s.{KEY}").isNull() | F.col(f"t.{KEY}").isNull()
    return not joined.where(one_sided | _row_differs(rows, current)).isEmpty()


def write_tombstones(table: DeltaTable, deleted: DataFrame, run_id: str) -> None:
    """Turn the tags of deleted documents into tombstones: no scores, labels or error, and the time of the deletion."""
    merge = table.alias("t").merge(deleted.alias("s"), _same((KEY,)))
    tombstone: dict[str, str | Column] = {
        "scores": "CAST(map() AS MAP<STRING, FLOAT>)",
        "labels": "CAST(array() AS ARRAY<STRING>)",
        "error": "CAST(NULL AS STRUCT<code: STRING, message: STRING>)",  # the message may quote the document
        "explored": "CAST(NULL AS BOOLEAN)",
        "propensities": "CAST(NULL AS MAP<STRING, DOUBLE>)",
        "run_id": F.lit(run_id),
        "deleted_at": "current_timestamp()",
    }
    merge.whenMatchedUpdate(condition="t.deleted_at IS NULL", set=tombstone).execute()


def _same(key: tuple[str, ...]) -> str:
    return " AND ".join(f"t.{name} = s.{name}" for name in key)


def _row_differs(rows: DataFrame, current: DataFrame) -> Column:
    """Return whether rows `s` and `t` differ in a column that is compared."""
    current_fields = {field.name.lower(): field for field in current.schema}
    compared = [field for field in rows.schema if field.name not in _NOT_COMPARED]
    differs = F.lit(any(field.name.lower() not in current_fields for field in compared))
    for field in compared:
        current_field = current_fields.get(field.name.lower())
        if current_field is None:
            continue
        ours, theirs = column(field.name, "s"), column(field.name, "t")
        # Spark compares neither maps nor variants, nor structs of different fields.
        if not _is_comparable(field.dataType) or field.dataType.simpleString() != current_field.dataType.simpleString():
            ours, theirs = _as_json(ours), _as_json(theirs)
        differs = differs | ~ours.eqNullSafe(theirs)
    return differs


def _is_comparable(data_type: DataType) -> bool:
    if isinstance(data_type, StructType):
        return all(_is_comparable(field.dataType) for field in data_type)
    if isinstance(data_type, ArrayType):
        return _is_comparable(data_type.elementType)
    return not isinstance(data_type, (MapType, VariantType))


def _as_json(value: Column) -> Column:
    return F.to_json(F.struct(value.alias("value")), _JSON_OPTIONS)
