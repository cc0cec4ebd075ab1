"""The lake's Delta tables: made as they should be, and written so that writing twice changes nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import MapType, StructType

from gliclass_spark.errors import TableError
from gliclass_spark.spark.delta import file_system
from gliclass_spark.spark.delta.change_feed import DeltaAddress
from gliclass_spark.spark.delta.commits import conflicts_retried
from gliclass_spark.spark.delta.schema import KEY, TAGS

logger = logging.getLogger(__name__)

_LOG, _STAGED = "_delta_log", "_staged_commits"
# Another run that makes a table at this moment has committed by then.
_CREATION_S = 10.0
# Says when a row was written, not what it says: a row that differs in these alone is not written again.
_LINEAGE_OF_WRITING = ("run_id", "tagged_at")
# The jobs read what changed in each other's tables, and change single rows of large files.
PROPERTIES = {"delta.enableChangeDataFeed": "true", "delta.enableDeletionVectors": "true"}


@dataclass(frozen=True)
class TableSpec:
    """What a table must be. Columns may be added by others; those of the schema must stay as they are.

    cluster_by: the columns that queries select by. constraints: CHECK conditions, by name.
    """

    schema: StructType
    not_null: tuple[str, ...] = ()
    cluster_by: tuple[str, ...] = ()
    constraints: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)


TAGS_SPEC = TableSpec(
    TAGS,
    not_null=(KEY, "label_set_hash", "scores", "model_digest", "run_id"),
    cluster_by=("label_set_hash", KEY),
    constraints={
        # No lambda: Delta stores a constraint token by token, and "->" would come back as "- >".
        "scores_are_probabilities": "size(scores) = 0 OR "
        "(array_min(map_values(scores)) >= 0 AND array_max(map_values(scores)) <= 1)"
    },
    properties=PROPERTIES,
)

# Scores that a tag job has made, and not merged yet.
STAGED_SPEC = TableSpec(TAGS, properties={"delta.enableDeletionVectors": "true"})


def decisions_spec(rows: DataFrame) -> TableSpec:
    """The table of documents that a decision fell about: found by id."""
    return TableSpec(rows.schema, not_null=(KEY,), cluster_by=(KEY,), properties=PROPERTIES)


@dataclass(frozen=True)
class Lake:
    """The folder of a pipeline's tables."""

    root: str

    def path(self, table: str) -> str:
        return f"{self.root.rstrip('/')}/{table}"

    def address(self, table: str) -> DeltaAddress:
        return DeltaAddress(path=self.path(table))

    def exists(self, spark: SparkSession, table: str) -> bool:
        return DeltaTable.isDeltaTable(spark, self.path(table))

    def read(self, spark: SparkSession, table: str) -> DataFrame:
        """The table as it is now. Raises TableError if there is none."""
        return self.address(table).read(spark, None)


def check(spark: SparkSession, path: str, schema: StructType) -> tuple[str, ...]:
    """The columns of `schema` that the table at `path` lacks; none if there is no table yet.

    Raises TableError if something else than a Delta table is there, or a column has another type.
    """
    if not DeltaTable.isDeltaTable(spark, path):
        if file_system.names(spark, path) and not _is_unfinished(spark, path):
            raise TableError(
                f"{path} holds files, but is no Delta table; move them, or name another folder in 'tables'"
            )
        return ()
    found = {each.name.lower(): each for each in spark.read.format("delta").load(path).schema}
    for expected in schema:
        present = found.get(expected.name.lower())
        if present is not None and present.dataType.simpleString() != expected.dataType.simpleString():
            raise TableError(
                f"{path}: column {expected.name!r} should be {expected.dataType.simpleString()}, found "
                f"{present.dataType.simpleString()}; someone altered it: bring back an earlier version (RESTORE TABLE "
                "... TO VERSION AS OF ...), or move the table away and run again"
            )
    return tuple(each.name for each in schema if each.name.lower() not in found)


def ensure(spark: SparkSession, path: str, spec: TableSpec) -> tuple[str, ...]:
    """Make the table, or what a killed run left unfinished of it. Gives the columns that it lacked.

    Raises TableError as `check` does.
    """
    missing = check(spark, path, spec.schema)
    if not DeltaTable.isDeltaTable(spark, path):
        if file_system.names(spark, path):
            _clear_unfinished(spark, path)
        conflicts_retried(lambda: _create(spark, path, spec), path)
    elif missing:
        added = StructType([each for each in spec.schema if each.name in missing])
        columns = ", ".join(f"{_name(each.name)} {each.dataType.simpleString()}" for each in added)
        conflicts_retried(lambda: spark.sql(f"ALTER TABLE {_sql_path(path)} ADD COLUMNS ({columns})"), path)
    if not spec.constraints:
        return missing
    set_already = DeltaTable.forPath(spark, path).detail().select("properties").collect()[0]["properties"]
    for name, condition in spec.constraints.items():
        if f"delta.constraints.{name}" not in {key.lower() for key in set_already}:
            statement = f"ALTER TABLE {_sql_path(path)} ADD CONSTRAINT {name} CHECK ({condition})"
            conflicts_retried(partial(spark.sql, statement), path)
    return missing


def replace_rows(rows: DataFrame, keys: DataFrame | None, path: str) -> None:
    """Make the Delta table hold exactly `rows` of the documents `keys`, in one commit; None: of all documents.

    Rows that say the same stay as they were written. So it can be done again, or anew after it was
    killed, with the same outcome. With `keys`, `rows` must have a column rules_hash that is never null.
    """
    table = DeltaTable.forPath(rows.sparkSession, path)
    changed = _differs(rows, table.toDF())
    source = rows if keys is None else keys.join(rows, KEY, "left")
    merge = table.alias("t").merge(source.alias("s"), f"t.{KEY} = s.{KEY}").withSchemaEvolution()
    if keys is None:
        everything = merge.whenMatchedUpdateAll(condition=changed).whenNotMatchedInsertAll()
        everything.whenNotMatchedBySourceDelete().execute()
    else:
        some = merge.whenMatchedDelete(condition="s.rules_hash IS NULL").whenMatchedUpdateAll(condition=changed)
        some.whenNotMatchedInsertAll(condition="s.rules_hash IS NOT NULL").execute()


def differs(spark: SparkSession, path: str, rows: DataFrame) -> bool:
    """Whether the Delta table holds other documents than `rows`, or says other things of them."""
    current = DeltaTable.forPath(spark, path).toDF()
    joined = rows.alias("s").join(current.alias("t"), F.col(f"s.{KEY}") == F.col(f"t.{KEY}"), "full_outer")
    one_sided = F.col(f"s.{KEY}").isNull() | F.col(f"t.{KEY}").isNull()
    return not joined.where(one_sided | _differs(rows, current)).isEmpty()


def append(rows: DataFrame, path: str) -> None:
    """Add rows to the Delta table, in one commit."""
    rows.write.format("delta").mode("append").save(path)


def upsert(rows: DataFrame, key: tuple[str, ...], path: str) -> None:
    """Write rows into the Delta table, replacing those with the same key, in one commit."""
    same_key = " AND ".join(f"t.{column} = s.{column}" for column in key)
    merge = DeltaTable.forPath(rows.sparkSession, path).alias("t").merge(rows.alias("s"), same_key)
    merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()


def insert_new(rows: DataFrame, key: tuple[str, ...], path: str) -> None:
    """Add those of the rows whose key the Delta table does not hold, in one commit."""
    same_key = " AND ".join(f"t.{column} = s.{column}" for column in key)
    merge = DeltaTable.forPath(rows.sparkSession, path).alias("t").merge(rows.alias("s"), same_key)
    merge.whenNotMatchedInsertAll().execute()


def write_tombstones(gone: DataFrame, run_id: str, path: str) -> None:
    """Turn the tags of documents that are gone into tombstones, in one commit."""
    table = DeltaTable.forPath(gone.sparkSession, path)
    merge = table.alias("t").merge(gone.alias("s"), f"t.{KEY} = s.{KEY}")
    tombstone: dict[str, str | Column] = {
        "scores": "CAST(map() AS MAP<STRING, FLOAT>)",
        "labels": "CAST(array() AS ARRAY<STRING>)",
        "explored": "CAST(NULL AS BOOLEAN)",
        "propensities": "CAST(NULL AS MAP<STRING, DOUBLE>)",
        "run_id": F.lit(run_id),
        "deleted_at": "current_timestamp()",
    }
    merge.whenMatchedUpdate(condition="t.deleted_at IS NULL", set=tombstone).execute()


def clear(spark: SparkSession, path: str, condition: str | None = None) -> None:
    """Take all rows, or those of the condition, out of the Delta table, in one commit."""
    DeltaTable.forPath(spark, path).delete(condition)


def _is_unfinished(spark: SparkSession, path: str) -> bool:
    """Whether nothing is there but a log without a commit, as a run leaves it that is killed as it makes the table."""
    log = f"{path}/{_LOG}"
    found = file_system.names(spark, log)
    alone = file_system.names(spark, path) == [_LOG] and _left_over(found) == found
    return alone and not file_system.names(spark, f"{log}/{_STAGED}")


def _left_over(log: list[str]) -> list[str]:
    """Those names of a log that are no part of a table: commits that were not written to their end, and their place."""
    return [name for name in log if name == _STAGED or (name.startswith(".") and name.endswith(".tmp"))]


def _clear_unfinished(spark: SparkSession, path: str) -> None:
    """Remove a log without a commit: Delta would make no table over it. Whoever may be at it is given time first."""
    until = time.monotonic() + _CREATION_S
    while time.monotonic() < until:
        time.sleep(_CREATION_S / 20)
        if not _is_unfinished(spark, path):
            return
    logger.warning("%s: a run was killed while it made this table; what it left is removed", path)
    # One by one, and no folder that holds anything: a commit that comes now stays.
    log = f"{path}/{_LOG}"
    for name in _left_over(file_system.names(spark, log)):
        file_system.remove(spark, f"{log}/{name}")
    file_system.remove(spark, log)


def _create(spark: SparkSession, path: str, spec: TableSpec) -> None:
    table = DeltaTable.createIfNotExists(spark).location(path)
    for each in spec.schema:
        table = table.addColumn(each.name, each.dataType, nullable=each.name not in spec.not_null)
    if spec.cluster_by:
        table = table.clusterBy(*spec.cluster_by)
    for name, value in spec.properties.items():
        table = table.property(name, value)
    table.execute()


def _differs(rows: DataFrame, current: DataFrame) -> Column:
    """Whether rows `s` and `t` say different things. Maps can't be compared: scores follow from the other columns."""
    known = {name.lower() for name in current.columns}
    compared = [
        each.name
        for each in rows.schema
        if each.name not in _LINEAGE_OF_WRITING and not isinstance(each.dataType, MapType)
    ]
    differs = F.lit(any(name.lower() not in known for name in compared))
    for name in compared:
        if name.lower() in known:
            differs = differs | ~F.col(f"s.{_name(name)}").eqNullSafe(F.col(f"t.{_name(name)}"))
    return differs


def _sql_path(path: str) -> str:
    return f"delta.{_name(path)}"


def _name(name: str) -> str:
    return f"`{name.replace('`', '``')}`"
