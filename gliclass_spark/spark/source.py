"""Source documents: read from their table or files, and checked."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import BinaryType, StringType

from gliclass_spark.config.pipeline import Source
from gliclass_spark.config.rule_sql import TAG_COLUMNS
from gliclass_spark.errors import TableError
from gliclass_spark.spark.delta.schema import DECISION_COLUMNS, KEY
from gliclass_spark.spark.delta.table_ref import NotADeltaTableError, TableRef

_READ_OPTIONS = {"csv": {"header": "true", "multiLine": "true", "escape": '"'}}


@dataclass(frozen=True)
class Documents:
    """The source of a pipeline, as a DataFrame with the columns that the jobs need."""

    spark: SparkSession
    source: Source

    @property
    def name(self) -> str:
        """The source's name in messages."""
        return f"table {self.source.table}" if self.source.table else str(self.source.path)

    @property
    def delta(self) -> TableRef | None:
        """The Delta table of the source, or None if it has no versions (files, tables of another format)."""
        if self.source.table is None and self.source.format != "delta":
            return None
        table = TableRef(path=self.source.path, table=self.source.table)
        try:
            table.handle(self.spark)
        except NotADeltaTableError:
            return None
        return table

    def read(self, version: int | None = None) -> DataFrame:
        """Return `doc_id` (the id column as a string), the text column and the other columns of the source.

        `version` is the Delta version, None for the current one. Raises TableError if the source or a column is
        missing, if the text is not a string, or if a column has the name of one that the jobs add.
        """
        return self.select_columns(self._read(version))

    def select_columns(self, frame: DataFrame, extra: tuple[str, ...] = ()) -> DataFrame:
        """Return rows of the source with the columns of `read`, followed by the columns `extra`."""
        source = self.source
        columns = [name for name in frame.columns if name not in extra]
        by_name = {name.lower(): name for name in columns}
        required = [("id", source.id), ("text", source.text), *(("columns", name) for name in source.columns or ())]
        for key, column in required:
            if column.lower() not in by_name:
                raise TableError(f"{self.name} has no column {column!r} (source.{key}); it has {', '.join(columns)}")
        text_type = frame.schema[by_name[source.text.lower()]].dataType
        if not isinstance(text_type, (StringType, BinaryType)):
            raise TableError(
                f"{self.name}: the text column {source.text!r} is {text_type.simpleString()}, expected string; "
                "name another column, or cast it in a view"
            )
        selected = columns if source.columns is None else [source.id, source.text, *source.columns]
        selected = [name for name in selected if name.lower() != KEY]
        for name in selected:
            if name.lower() in (*TAG_COLUMNS, *DECISION_COLUMNS):
                raise TableError(
                    f"{self.name}: the column {name!r} has the name of one that the jobs add; "
                    "rename it, or name the columns to keep in source.columns"
                )
        id_ = _quoted(source.id).cast("string").alias(KEY)
        return frame.select(id_, *(_quoted(name) for name in (*selected, *extra)))

    def check_ids(self, documents: DataFrame) -> None:
        """Raise TableError if an id is null or occurs twice: tags could not be matched to documents."""
        counts = documents.groupBy(KEY).count().where(F.col(KEY).isNull() | (F.col("count") > 1))
        invalid = counts.orderBy(F.col(KEY).isNotNull(), KEY).limit(3).collect()
        if not invalid:
            return
        if invalid[0][KEY] is None:
            raise TableError(
                f"{self.name}: {invalid[0]['count']} rows have no id (source.id {self.source.id!r} is null); "
                "give each row an id of its own"
            )
        repeated = ", ".join(f"{row[KEY]!r} ({row['count']} rows)" for row in invalid)
        raise TableError(f"{self.name}: ids of source.id {self.source.id!r} repeat: {repeated}; give each row its own")

    def _read(self, version: int | None) -> DataFrame:
        source = self.source
        if version is not None:
            return TableRef(path=source.path, table=source.table).read(self.spark, version)
        try:
            if source.table is not None:
                return self.spark.read.table(source.table)
            reader = self.spark.read.format(source.format).options(**_READ_OPTIONS.get(source.format, {}))
            return reader.load(source.path)
        except AnalysisException as error:
            missing = "NOT_FOUND" in (error.getCondition() or "") or "MISSING" in (error.getCondition() or "")
            if missing or "is not a Delta table" in str(error) or "doesn't exist" in str(error):
                raise TableError(
                    f"there is no {source.format if source.path else 'table'} at {self.name}; "
                    "check source.path, source.table and source.format"
                ) from None
            raise TableError(f"{self.name} can't be read: {str(error).splitlines()[0]}") from None


def with_content(documents: DataFrame, text: str) -> DataFrame:
    """Return doc_id, content_hash (SHA-256 of the text's bytes, null for null) and the text as bytes."""
    content = F.col(f"`{text}`").cast("binary")
    return documents.select(KEY, F.sha2(content, 256).alias("content_hash"), content.alias("text"))


def _quoted(name: str) -> Column:
    return F.col(f"`{name}`")
