"""Reading the documents and writing the lake's Delta tables, so that writing twice changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import BinaryType, MapType, StringType, StructType

from gliclass_spark.conditions import TAG_COLUMNS
from gliclass_spark.config import Source
from gliclass_spark.errors import TableError

KEY = "doc_id"
# What decisions add beside the tags; a document's own column of such a name would be overwritten.
DECISION_COLUMNS = ("rules_hash", "reason", "route")
# Says when a row was written, not what it says: a row that differs in these alone is not written again.
_LINEAGE_OF_WRITING = ("run_id", "tagged_at")
_READ_OPTIONS = {"csv": {"header": "true", "multiLine": "true", "escape": '"'}}


@dataclass(frozen=True)
class Lake:
    """The folder of a pipeline's tables."""

    root: str

    def path(self, table: str) -> str:
        return f"{self.root.rstrip('/')}/{table}"

    def exists(self, spark: SparkSession, table: str) -> bool:
        return DeltaTable.isDeltaTable(spark, self.path(table))

    def read(self, spark: SparkSession, table: str) -> DataFrame:
        """The table as it is now. Raises TableError if there is none."""
        if not self.exists(spark, table):
            raise TableError(f"there is no Delta table at {self.path(table)}; run the job that writes it first")
        return spark.read.format("delta").load(self.path(table))


def read_documents(spark: SparkSession, source: Source) -> DataFrame:
    """The documents: `doc_id` (the id column as a string), the text column, and the others that go along.

    Raises TableError if the source or a column is missing, if the text is no string, or if a column
    has the name of one that tagging adds.
    """
    frame = _read(spark, source)
    by_name = {name.lower(): name for name in frame.columns}
    named = [("id", source.id), ("text", source.text), *(("columns", name) for name in source.columns or ())]
    for key, wanted in named:
        if wanted.lower() not in by_name:
            raise TableError(
                f"{_address(source)} has no column {wanted!r} (source.{key}); it has {', '.join(frame.columns)}"
            )
    text_type = frame.schema[by_name[source.text.lower()]].dataType
    if not isinstance(text_type, (StringType, BinaryType)):
        raise TableError(
            f"{_address(source)}: the text column {source.text!r} is {text_type.simpleString()}, expected string; "
            "name another column, or cast it in a view"
        )
    chosen = frame.columns if source.columns is None else [source.id, source.text, *source.columns]
    own = [name for name in chosen if name.lower() != KEY]
    for name in own:
        if name.lower() in (*TAG_COLUMNS, *DECISION_COLUMNS):
            raise TableError(
                f"{_address(source)}: the column {name!r} has the name of one that the jobs add; "
                "rename it, or name the columns to keep in source.columns"
            )
    return frame.select(_quoted(source.id).cast("string").alias(KEY), *(_quoted(name) for name in own))


def check_ids(documents: DataFrame, source: Source) -> None:
    """Raise TableError if an id is null or stands on two rows: scores could not be told apart then."""
    counts = documents.groupBy(KEY).count().where(F.col(KEY).isNull() | (F.col("count") > 1))
    found = counts.orderBy(F.col(KEY).isNotNull(), KEY).limit(3).collect()
    if not found:
        return
    if found[0][KEY] is None:
        raise TableError(
            f"{_address(source)}: {found[0]['count']} rows have no id (source.id {source.id!r} is null); "
            "give each row an id of its own"
        )
    listed = ", ".join(f"{row[KEY]!r} ({row['count']} rows)" for row in found)
    raise TableError(f"{_address(source)}: ids of source.id {source.id!r} repeat: {listed}; give each row its own")


def source_version(spark: SparkSession, source: Source) -> int | None:
    """The Delta version that is read now; None for a source that has no versions."""
    if source.format != "delta" and source.table is None:
        return None
    try:
        table = DeltaTable.forName(spark, source.table) if source.table else DeltaTable.forPath(spark, str(source.path))
    except AnalysisException:
        return None  # a catalog table of another format
    return int(table.history(1).collect()[0]["version"])


def upsert(spark: SparkSession, path: str, rows: DataFrame, schema: StructType, key: list[str]) -> None:
    """Write rows into the Delta table, replacing those with the same key. Creates the table if need be."""
    DeltaTable.createIfNotExists(spark).location(path).addColumns(schema).execute()
    table = DeltaTable.forPath(spark, path)
    same_key = " AND ".join(f"t.{column} = s.{column}" for column in key)
    merge = table.alias("t").merge(rows.alias("s"), same_key)
    merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()


def converge(spark: SparkSession, path: str, wanted: DataFrame) -> None:
    """Make the Delta table hold exactly the rows of `wanted` (one for each doc_id), in one commit.

    Rows that say the same stay as they were written; nothing is committed if all do. So it can be
    run again, or anew after it was killed, with the same outcome.
    """
    if not DeltaTable.isDeltaTable(spark, path):
        wanted.write.format("delta").save(path)
        return
    table = DeltaTable.forPath(spark, path)
    current = table.toDF()
    differs = _differs(wanted, current)
    joined = wanted.alias("s").join(current.alias("t"), F.col(f"s.{KEY}") == F.col(f"t.{KEY}"), "full_outer")
    one_sided = F.col(f"s.{KEY}").isNull() | F.col(f"t.{KEY}").isNull()
    if joined.where(one_sided | differs).isEmpty():
        return
    merge = table.alias("t").merge(wanted.alias("s"), f"t.{KEY} = s.{KEY}").withSchemaEvolution()
    merge = merge.whenMatchedUpdateAll(condition=differs).whenNotMatchedInsertAll()
    merge.whenNotMatchedBySourceDelete().execute()


def _differs(wanted: DataFrame, current: DataFrame) -> Column:
    """Whether rows `s` and `t` say different things. Maps can't be compared: scores follow from the other columns."""
    known = {name.lower() for name in current.columns}
    compared = [
        field.name
        for field in wanted.schema.fields
        if field.name not in _LINEAGE_OF_WRITING and not isinstance(field.dataType, MapType)
    ]
    differs = F.lit(any(name.lower() not in known for name in compared))
    for name in compared:
        if name.lower() in known:
            differs = differs | ~F.col(f"s.`{name}`").eqNullSafe(F.col(f"t.`{name}`"))
    return differs


def _read(spark: SparkSession, source: Source) -> DataFrame:
    try:
        if source.table is not None:
            return spark.read.table(source.table)
        reader = spark.read.format(source.format).options(**_READ_OPTIONS.get(source.format, {}))
        return reader.load(source.path)
    except AnalysisException as error:
        missing = "NOT_FOUND" in (error.getCondition() or "") or "MISSING" in (error.getCondition() or "")
        if missing or "is not a Delta table" in str(error) or "doesn't exist" in str(error):
            raise TableError(
                f"there is no {source.format if source.path else 'table'} at {_address(source)}; "
                "check source.path, source.table and source.format"
            ) from None
        raise TableError(f"{_address(source)} can't be read: {str(error).splitlines()[0]}") from None


def _address(source: Source) -> str:
    return f"table {source.table}" if source.table else str(source.path)


def _quoted(name: str) -> Column:
    return F.col(f"`{name}`")
