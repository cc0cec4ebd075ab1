"""Source documents: read from their table or files, and checked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pyspark.errors import AnalysisException, IllegalArgumentException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import BinaryType, DataType, DoubleType, FloatType, StringType

from gliclass_spark.config.paths import canonical_folder, overlap, source_folders
from gliclass_spark.config.pipeline import Source
from gliclass_spark.config.rule_sql import CLOCK, TAG_COLUMNS
from gliclass_spark.errors import TableError
from gliclass_spark.spark.delta.column_names import HELPER_PREFIX, column
from gliclass_spark.spark.delta.schema import DECISION_COLUMNS, FEED_METADATA, KEY
from gliclass_spark.spark.delta.table_ref import NotADeltaTableError, TableRef
from gliclass_spark.spark.source_files import RECORD_ID, SOURCE_ERROR, nanosecond_columns, read_files
from gliclass_spark.spark.spark_errors import SPARK_ERRORS, as_user_error, missing_right, root_cause
from gliclass_spark.spark.transforms.rule_expressions import lenient_sql, reads_clock

_IS_MISSING = re.compile("is not a Delta table|doesn't exist")
_FORMATS = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
# The largest whole numbers up to which every one has a double, or a float, of its own.
_EXACT_INTEGERS = {DoubleType: 2**53, FloatType: 2**24}
_UUID_BYTES = 16


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
        except SPARK_ERRORS as error:
            raise as_user_error(error, self.name) from None
        return table

    def read(self, version: int | None = None) -> DataFrame:
        """Return `doc_id` (the id as text), the text column and the other columns of the source.

        `version` is the Delta version, None for the current one. If some records of the source's files can't be read,
        they are rows with SOURCE_ERROR, see `source_files`. Raises TableError if the source or a column is missing,
        if the text is not a string, or if a column has the name of one that the jobs add.
        """
        try:
            return self.select_columns(self._read(version))
        except IllegalArgumentException as error:
            if "UnknownHostException" in str(error):
                raise as_user_error(error, self.name) from None
            raise TableError(
                f"{self.name}: Spark's reader refuses an option: {root_cause(error)}; check source.encoding, "
                "source.delimiter and source.options"
            ) from None
        except SPARK_ERRORS as error:
            raise as_user_error(error, self.name) from None

    def count(self, version: int) -> int:
        """Return the number of documents of a Delta version."""
        if self.source.where is None:
            return TableRef(path=self.source.path, table=self.source.table).row_count(self.spark, version)
        return self.read(version).count()

    def select_columns(self, frame: DataFrame, extra: tuple[str, ...] = ()) -> DataFrame:
        """Return rows of the source that meet `source.where`, with the columns of `read`, followed by `extra`."""
        source = self.source
        helpers = [name for name in (SOURCE_ERROR, RECORD_ID) if name in frame.columns]
        columns = [name for name in frame.columns if name not in (*extra, *helpers)]
        required = [("id", source.id), ("text", source.text), *(("columns", name) for name in source.columns or ())]
        spelled = {name: self._spelling(key, name, columns) for key, name in required}
        text_type = frame.schema[spelled[source.text]].dataType
        if not isinstance(text_type, (StringType, BinaryType)):
            raise TableError(
                f"{self.name}: the text column {source.text!r} is {text_type.simpleString()}, expected string; "
                "name another column, or cast it in a view"
            )
        if source.columns is None:
            names_in_config = {actual: name for name, actual in spelled.items()}
            spelled |= {names_in_config.get(name, name): name for name in columns}
        selected = {name: actual for name, actual in spelled.items() if name.lower() != KEY}
        self._check_names(list(selected))
        if source.where is not None:
            frame = self._matching(frame, columns, has_errors=bool(helpers))
        id_ = id_as_text(column(spelled[source.id]), frame.schema[spelled[source.id]].dataType, self.name)
        if helpers:
            id_ = F.coalesce(F.col(RECORD_ID), id_)
        others = (column(actual).alias(name) for name, actual in selected.items())
        return frame.select(id_.alias(KEY), *others, *helpers[:1], *(column(name) for name in extra))

    def _spelling(self, key: str, name: str, columns: list[str]) -> str:
        """Return the source's column of this name, in the source's spelling. Raises TableError if there is none."""
        matching = [actual for actual in columns if actual.lower() == name.lower()]
        if not matching:
            hint = f"; it has {', '.join(columns)}"
            if any("\ufffd" in actual or "\0" in actual for actual in columns):
                hint += ", which is not in UTF-8: set source.encoding"
            elif self.source.format == "csv" and len(columns) == 1:
                hint += ": if another character than a comma separates the fields, set source.delimiter"
            raise TableError(f"{self.name} has no column {name!r} (source.{key}){hint}")
        return name if name in matching else matching[0]

    def _check_names(self, names: list[str]) -> None:
        """Raise TableError for columns that the jobs add, or that differ in case alone, which Delta can't hold."""
        fix = "rename it, or name the columns to keep in source.columns"
        seen: dict[str, str] = {}
        for name in names:
            folded = name.lower()
            if folded in (*TAG_COLUMNS, *DECISION_COLUMNS, *FEED_METADATA) or folded.startswith(HELPER_PREFIX):
                raise TableError(f"{self.name}: the column {name!r} has the name of one that the jobs add; {fix}")
            if folded in seen:
                raise TableError(f"{self.name}: the columns {seen[folded]!r} and {name!r} differ in case alone; {fix}")
            seen[folded] = name

    def _matching(self, frame: DataFrame, columns: list[str], has_errors: bool) -> DataFrame:
        """Return the rows that meet `source.where`, and those with an error. Raises TableError if Spark refuses it."""
        condition = F.expr(str(self.source.where))
        try:
            with lenient_sql(self.spark):
                checked = frame.drop(*((SOURCE_ERROR, RECORD_ID) if has_errors else ())).where(condition)
                if reads_clock(checked):
                    raise TableError(f"{self.name}: source.where {self.source.where!r} {CLOCK}")
                return frame.where(condition | F.col(SOURCE_ERROR).isNotNull() if has_errors else condition)
        except AnalysisException as error:
            raise TableError(
                f"{self.name}: Spark can't evaluate source.where {self.source.where!r}: {root_cause(error)}; the "
                f"source has the columns {', '.join(columns)}"
            ) from None

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

    def check_apart_from(self, tables: Iterable[TableRef]) -> None:
        """Raise TableError if one of the tables that are written to lies where the source is, or will.

        Where both have paths, `Pipeline` has compared them. Of views and of tables in other formats than Delta, the
        folder is not known.
        """
        source = self.source
        if source.path is not None:
            folders = source_folders(source.path)
        elif (delta := self.delta) is not None:
            folders = [canonical_folder(delta.location(self.spark))]
        else:
            return
        for table in tables:
            folder = table.folder(self.spark)
            if folder is not None and overlap(folders, canonical_folder(folder)):
                raise TableError(
                    f"{self.name} and the table {table.name}, which is written to {folder}, overlap; choose another "
                    "source or other tables"
                )

    def _read(self, version: int | None) -> DataFrame:
        source = self.source
        if version is not None:
            return TableRef(path=source.path, table=source.table).read(self.spark, version)
        try:
            if source.table is not None:
                return self.spark.read.table(source.table)
            if source.format == "delta":
                return self.spark.read.format("delta").load(source.path)
            return read_files(self.spark, source)
        except AnalysisException as error:
            raise TableError(self._problem(error)) from None

    def _problem(self, error: AnalysisException) -> str:
        """Return why the source can't be read, and what to do."""
        condition, path = error.getCondition() or "", self.source.path
        if path is not None and Path(path).is_dir() and not os.access(path, os.R_OK | os.X_OK):
            return missing_right("read", path)  # Java finds no file in such a folder
        if "NOT_FOUND" in condition or "MISSING" in condition or _IS_MISSING.search(str(error)):
            kind: str = self.source.format if path else "table"
            if kind == "delta":
                kind, suffix = "Delta table", PurePosixPath(path or "").suffix.lower()
                if suffix in _FORMATS:
                    return (
                        f"{self.name} is no Delta table; write source.format: {_FORMATS[suffix]}, or check source.path"
                    )
            return f"there is no {kind} at {self.name}; check source.path, source.table and source.format"
        if condition == "UNABLE_TO_INFER_SCHEMA":
            return f"{self.name} holds no {self.source.format} file; check source.path and source.format"
        if condition == "PARQUET_TYPE_ILLEGAL" and "NANOS" in str(error):
            columns = ", ".join(map(repr, nanosecond_columns(self.spark, self.source))) or "a column"
            return (
                f"{self.name}: {columns} holds timestamps in nanoseconds, which Spark can't read; write microseconds "
                "(pandas: to_parquet(..., coerce_timestamps='us')), or set spark.sql.legacy.parquet.nanosAsLong: true "
                "in the file of --conf to read them as numbers"
            )
        return f"{self.name} can't be read: {root_cause(error)}"


def id_as_text(id_: Column, data_type: DataType, source: str) -> Column:
    """Return the id as text: whole numbers without a fraction, binary ids as a UUID, in hexadecimal or as their text.

    A number that a double can't tell from its neighbours fails the query: two documents may have it.
    """
    if isinstance(data_type, (DoubleType, FloatType)):
        limit = _EXACT_INTEGERS[type(data_type)]
        value = id_.cast("double")
        refusal = F.concat(
            F.lit(f"{source}: the id "),
            id_.cast("string"),
            F.lit(f" is a {data_type.simpleString()} too large to be exact; write ids as text or as integers"),
        )
        whole = F.when(value == F.floor(value), value.cast("bigint").cast("string")).otherwise(id_.cast("string"))
        exact = F.when(F.abs(value) < limit, whole).otherwise(F.raise_error(refusal))
        return F.when(id_.isNotNull() & ~F.isnan(value), exact)
    if isinstance(data_type, BinaryType):
        text, digits = id_.cast("string"), F.lower(F.hex(id_))
        groups = F.regexp_replace(digits, "^(.{8})(.{4})(.{4})(.{4})(.{12})$", "$1-$2-$3-$4-$5")
        is_text = F.is_valid_utf8(text) & ~F.rlike(F.make_valid_utf8(text), F.lit(r"\p{Cntrl}"))
        return F.when(is_text, text).when(F.length(id_) == _UUID_BYTES, groups).otherwise(digits)
    return id_.cast("string")


def with_content(documents: DataFrame, text: str) -> DataFrame:
    """Return doc_id, content_hash (SHA-256 of the text's bytes, null for null) and the text as bytes.

    SOURCE_ERROR is kept where the documents have it. The hash of such a row covers its code, too: when the source is
    repaired, or read in another encoding, the text is a changed one.
    """
    content = column(text).cast("binary")
    if SOURCE_ERROR not in documents.columns:
        return documents.select(KEY, F.sha2(content, 256).alias("content_hash"), content.alias("text"))
    code = F.col(SOURCE_ERROR)["code"].cast("binary")
    hashed = F.when(code.isNotNull(), F.concat(code, F.coalesce(content, F.lit(b"")))).otherwise(content)
    return documents.select(KEY, F.sha2(hashed, 256).alias("content_hash"), content.alias("text"), SOURCE_ERROR)
