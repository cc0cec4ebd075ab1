"""Feedback signals as files and tables bring them: CSV, JSON lines, Parquet, Delta."""

from __future__ import annotations

from pathlib import PurePosixPath

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import TimestampType

from gliclass_spark.errors import TableError
from gliclass_spark.feedback.verdicts import REQUIRED, SIGNAL_KEY
from gliclass_spark.spark.delta import file_system

_FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
_READ_OPTIONS = {
    "csv": {"header": "true", "multiLine": "true", "escape": '"'},
    "json": {"primitivesAsString": "true"},
}
_OPTIONAL = ("label", "label_set_hash", "reward")


def read_signals(spark: SparkSession, path: str) -> DataFrame:
    """Return the signals at `path`, unchecked: all columns as strings, and observed_at as a time if it is one.

    The label is null where it is empty, and without such a column: these signals are about all labels of a document.

    `path` is a Delta table, a file, or a folder of files of one format. Raises TableError if there are no
    signals, or if a column is missing.
    """
    if DeltaTable.isDeltaTable(spark, path):
        rows = spark.read.format("delta").load(path)
    else:
        format_name = _format(spark, path)
        rows = spark.read.format(format_name).options(**_READ_OPTIONS.get(format_name, {})).load(path)
    types = {field.name.lower(): field.dataType for field in rows.schema}
    missing = [name for name in REQUIRED if name not in types]
    if missing:
        raise TableError(
            f"{path}: column {missing[0]!r} is missing; signals have the columns {', '.join(REQUIRED)}, and may "
            f"have {', '.join(_OPTIONAL)}; found {', '.join(rows.columns)}"
        )
    columns = {name: F.col(name) if name in types else F.lit(None) for name in (*SIGNAL_KEY[:-1], "reward")}
    observed_at = F.col("observed_at")
    if not isinstance(types["observed_at"], TimestampType):
        observed_at = observed_at.cast("string")
    texts = {name: column.cast("string") for name, column in columns.items()}
    texts["label"] = F.when(F.trim(texts["label"]) != "", texts["label"])
    return rows.select(*(column.alias(name) for name, column in texts.items()), observed_at)


def _format(spark: SparkSession, path: str) -> str:
    """Return Spark's name of the format that all files at the path have. Raises TableError otherwise."""
    names = [name for name in file_system.list_names(spark, path) if not name.startswith(("_", "."))]
    formats = {_FORMATS.get(PurePosixPath(name).suffix.lower(), name) for name in names}
    if len(formats) != 1 or not formats <= set(_FORMATS.values()):
        content = f"holds {', '.join(sorted(names)[:3])}" if names else "holds nothing"
        raise TableError(
            f"{path} {content}; give a Delta table, a file of signals ({', '.join(_FORMATS)}), or a folder of one kind"
        )
    return formats.pop()
