"""Source files: CSV, JSON and Parquet. A record that can't be read becomes a row with an error, and an id of its own.

Such rows come with two helper columns, which frames without them lack: SOURCE_ERROR, null for all other rows, and
RECORD_ID, null where the row's own id is good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import StringType, StructField, StructType

from gliclass_spark.config.pipeline import Source
from gliclass_spark.errors import TableError
from gliclass_spark.inference.results import UNDECODABLE_TEXT
from gliclass_spark.spark.delta.column_names import column, helper
from gliclass_spark.spark.delta.schema import TAG_FIELDS

# The error's code of a record that is no JSON object, or has other fields than the header of its CSV file.
UNREADABLE_ROW = "unreadable_row"
# The part of its message that names the file; the beginning of the record follows.
UNREADABLE_FILE = "^(.*?): not a "
SOURCE_ERROR, RECORD_ID = helper("source_error"), helper("record_id")

_RECORD = helper("record")
_ERROR_TYPE = TAG_FIELDS["error"].dataType
_REPLACEMENT = "\ufffd"  # what Java puts for bytes that are not in the file's encoding
_MESSAGE_CHARS = 200
# Files that are named one by one in a query. Of more, all files of the source are taken.
_MAX_FILES = 500


def read_files(spark: SparkSession, source: Source) -> DataFrame:
    """Return the rows of the source's files, with SOURCE_ERROR and RECORD_ID if some can't be read.

    Raises TableError for files without any record, or without one that can be read.
    """
    path = str(source.path)
    reader = spark.read.format(source.format).options(**_reader_options(source))
    frame = reader.load(path)
    if not frame.columns:
        raise TableError(f"{path} holds no {source.format} record; write documents into it, or check source.path")
    if frame.columns == [_RECORD]:
        raise TableError(
            f"{path}: no line of it is a JSON object; if its files hold an array, or objects over several lines, set "
            "source.multiline: true; if they are not in UTF-8, set source.encoding"
        )
    schema = _with_text_ids_of_folders(spark, source, frame.schema)
    if source.format == "csv":
        if _has_names_of_header(schema.names) and "enforceschema" not in map(str.lower, source.options):
            # Otherwise a file with the columns in another order would be read in the order of the first file.
            reader = reader.option("enforceSchema", "false")
        schema = StructType([*schema, StructField(_RECORD, StringType())])
    if schema != frame.schema:
        frame = reader.schema(schema).load(path)
    return _with_errors(spark, source, frame) if _RECORD in frame.columns else frame


def nanosecond_columns(spark: SparkSession, source: Source) -> list[str]:
    """Return the columns of one of the source's Parquet files that hold timestamps in nanoseconds."""
    jvm: Any = getattr(spark, "_jvm", None)
    file = _files(spark, source).select("path").first()
    if jvm is None or file is None:
        return []
    conf = spark._jsparkSession.sessionState().newHadoopConf()
    hadoop_file = jvm.org.apache.parquet.hadoop.util.HadoopInputFile.fromPath(
        jvm.org.apache.hadoop.fs.Path(file["path"]), conf
    )
    reader = jvm.org.apache.parquet.hadoop.ParquetFileReader.open(hadoop_file)
    try:
        columns = list(reader.getFooter().getFileMetaData().getSchema().getColumns())
        return [str(each.getPath()[0]) for each in columns if "NANOS" in str(each.getPrimitiveType().toString())]
    finally:
        reader.close()


def _reader_options(source: Source) -> Mapping[str, str]:
    """Return the options of Spark's reader for the source's files."""
    options = dict(source.options)
    if source.format == "csv":
        # Pruned, a record would be compared with the columns of the query instead of those of the file.
        options |= {"header": "true", "multiLine": "true", "escape": '"', "columnPruning": "false", **source.options}
    if source.format in ("csv", "json"):
        options["columnNameOfCorruptRecord"] = _RECORD
    for name, value in (("header", source.header), ("multiLine", source.multiline)):
        if value is not None:
            options[name] = str(value).lower()
    for name, text in (("encoding", source.encoding), ("sep", source.delimiter)):
        if text is not None:
            options[name] = text
    if source.format == "json" and source.encoding is not None and not source.multiline:
        options.setdefault("lineSep", "\n")  # Spark finds no line breaks by itself in other encodings than UTF-8
    return options


def _has_names_of_header(names: list[str]) -> bool:
    """Return whether Spark has left the names of a CSV header alone; it numbers empty and repeated ones."""
    bases = [name.removesuffix(str(index)).lower() for index, name in enumerate(names)]
    numbered = {base for base, name in zip(bases, names, strict=True) if base != name.lower()}
    return "_c" not in numbered and not any(bases.count(base) > 1 for base in numbered)


def _files(spark: SparkSession, source: Source) -> DataFrame:
    """Return a row per file of the source, with the columns that are in the names of folders."""
    return spark.read.format("binaryFile").options(**source.options).load(str(source.path))


def _with_text_ids_of_folders(spark: SparkSession, source: Source, schema: StructType) -> StructType:
    """Return the schema with an id from the names of folders as text: id=007 is no number 7."""
    fields = {field.name.lower(): field for field in schema}
    id_ = fields.get(source.id.lower())
    if id_ is None or isinstance(id_.dataType, StringType):
        return schema
    if source.id.lower() not in (name.lower() for name in _files(spark, source).columns):
        return schema
    return StructType([StructField(f.name, StringType()) if f is id_ else f for f in schema])


def _with_errors(spark: SparkSession, source: Source, frame: DataFrame) -> DataFrame:
    """Return the rows with SOURCE_ERROR and RECORD_ID, without the column of records; as they are if all are good."""
    records, names = F.col(_RECORD), {name.lower(): name for name in frame.columns if name != _RECORD}
    text, id_ = names.get(source.text.lower()), names.get(source.id.lower())
    if text is None or id_ is None:
        return frame.drop(_RECORD)  # the columns are checked next
    # Spark refuses a query of the records alone: the condition names another column, too.
    unreadable = records.isNotNull() & ((F.length(records) >= 0) | column(text).isNotNull())
    strings = [column(field.name) for field in frame.schema if field.name in names.values() and _is_string(field)]
    damaged, invalid = F.lit(False), ~F.is_valid_utf8(records)
    if source.format == "csv":
        replaced = F.contains(F.concat_ws("", *strings), F.lit(_REPLACEMENT))
        [(has_unreadable, has_replaced)] = frame.agg(F.max(unreadable), F.max(replaced)).collect()
        damaged = replaced & _is_of_damaged_file(spark, source) if has_replaced else damaged
        invalid = F.lit(False)
        if not has_unreadable and not has_replaced:
            return frame.drop(_RECORD)

    good = frame.where(~(unreadable | damaged)).drop(_RECORD)
    good = good.withColumns({SOURCE_ERROR: F.lit(None).cast(_ERROR_TYPE), RECORD_ID: F.lit(None).cast("string")})
    file = F.col("_metadata.file_path")
    readable = F.make_valid_utf8(records)
    beginning = F.regexp_replace(F.substring(readable, 1, _MESSAGE_CHARS), r"\s+", " ")
    kind = "JSON object" if source.format == "json" else f"CSV record of {len(names)} fields"
    unreadable_message = F.concat(file, F.lit(f": not a {kind}: "), beginning)
    damaged_message = F.concat(file, F.lit(f": bytes that are not {source.encoding or 'UTF-8'}; see source.encoding"))
    is_damaged = damaged | (unreadable & invalid)
    error = F.struct(
        F.when(is_damaged, UNDECODABLE_TEXT.code).otherwise(UNREADABLE_ROW).alias("code"),
        F.when(is_damaged, damaged_message).otherwise(unreadable_message).alias("message"),
    )
    digest = F.substring(F.sha2(F.coalesce(records, F.concat_ws("\x1f", *strings)).cast("binary"), 256), 1, 16)
    has_no_id = unreadable | F.contains(column(id_).cast("string"), F.lit(_REPLACEMENT))
    record_id = F.when(has_no_id, F.concat(F.lit("corrupt:"), F.col("_metadata.file_name"), F.lit(":"), digest))
    bad = frame.where(unreadable | damaged).select(
        *(column(name) for name in names.values() if name != text),
        F.when(unreadable, readable).otherwise(column(text)).alias(text),
        error.cast(_ERROR_TYPE).alias(SOURCE_ERROR),
        record_id.alias(RECORD_ID),
        digest.alias(_RECORD),
        file.alias(helper("file")),
    )
    # A record may stand in a file twice.
    repeat = F.row_number().over(Window.partitionBy(RECORD_ID, _RECORD).orderBy(helper("file")))
    numbered = F.when(repeat > 1, F.concat(RECORD_ID, F.lit("#"), repeat)).otherwise(F.col(RECORD_ID))
    return good.unionByName(bad.withColumn(RECORD_ID, numbered).drop(_RECORD, helper("file")))


def _is_of_damaged_file(spark: SparkSession, source: Source) -> Column:
    """Return whether a row is of a file with bytes that are not in its encoding."""
    encoding = (source.encoding or "UTF-8").upper().replace("_", "-")
    if encoding not in ("UTF-8", "UTF8"):
        return F.lit(True)  # no text of another encoding has the replacement character
    lines = spark.read.format("text").options(**source.options).load(str(source.path))
    rows = lines.where(~F.is_valid_utf8("value")).select("_metadata.file_path").distinct().limit(_MAX_FILES + 1)
    files = [row["file_path"] for row in rows.collect()]
    return F.col("_metadata.file_path").isin(files) if len(files) <= _MAX_FILES else F.lit(True)


def _is_string(field: StructField) -> bool:
    return isinstance(field.dataType, StringType)
