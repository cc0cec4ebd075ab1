"""Tables in files, without Spark: Parquet, JSON lines and Delta, also as Spark writes them, as folders of parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from gliclass_spark.errors import TrainingError
from gliclass_spark.runs.delta_reader import delta_table, query

_JSON_LINES = (".jsonl", ".ndjson", ".json")
_SUFFIXES = (".parquet", *_JSON_LINES)
_KINDS = "give a .parquet file, a .jsonl file, a Delta table, or a folder of them"
# What Spark and Hive write for null into the name of a folder.
_NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"


def find_tables(path: Path) -> list[Path]:
    """Return the table at the path, or the tables of a folder by name. Raises TrainingError if there is none.

    A Delta table is one table, and so is a folder of parts (part-*, _SUCCESS) or of folders such as split=test.
    """
    if _is_delta(path) or _is_folder_of_parts(path):
        return [path]
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise TrainingError(f"{path} is no table; {_KINDS}")
        return [path]
    if not path.is_dir():
        raise TrainingError(f"{path} does not exist; give a table or a folder of tables")
    tables = [
        table
        for table in path.iterdir()
        if table.suffix in _SUFFIXES or _is_delta(table) or (table.is_dir() and _is_folder_of_parts(table))
    ]
    if not tables:
        raise TrainingError(f"{path} holds no table; {_KINDS}")
    return sorted(tables)


def read_rows(table: Path, columns: Sequence[str], optional_columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the rows of a table with these columns. Raises TrainingError if it can't be read, or lacks a column.

    Of the optional columns, those that the table has are among the rows' keys. A column in the names of folders, as in
    split=test, holds text.
    """
    if _is_delta(table):
        delta = delta_table(str(table))
        present = [field.name for field in delta.schema().fields]
        _refuse_missing_columns(columns, present, table)
        chosen = [*columns, *(name for name in optional_columns if name in present)]
        return query(delta, f"select {', '.join(_quoted(name) for name in chosen)} from t")  # noqa: S608
    rows: list[dict[str, Any]] = []
    for file in _files(table):
        of_folders = _columns_of_folders(file.relative_to(table)) if table.is_dir() else {}
        in_file = [name for name in columns if name not in of_folders]
        read = _parquet_rows if file.suffix == ".parquet" else _json_rows
        rows += [{**row, **of_folders} for row in read(file, in_file, optional_columns, list(of_folders))]
    return rows


def data_version(path: Path) -> str:
    """Return the version of the data at the path: of a Delta table, or the SHA-256 of the files."""
    if _is_delta(path):
        return str(delta_table(str(path)).version())
    digest = hashlib.sha256()
    for table in find_tables(path):
        if _is_delta(table):
            digest.update(f"{table.name} {data_version(table)}\n".encode())
            continue
        for file in _files(table):
            name = table.name if file == table else f"{table.name}/{file.relative_to(table)}"
            with file.open("rb") as content:
                digest.update(f"{name} {hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _is_delta(path: Path) -> bool:
    return (path / "_delta_log").is_dir()


def _is_folder_of_parts(path: Path) -> bool:
    if not path.is_dir():
        return False
    return (path / "_SUCCESS").exists() or any(
        child.name.startswith("part-") or (child.is_dir() and "=" in child.name) for child in path.iterdir()
    )


def _files(table: Path) -> list[Path]:
    """Return the files of a table that is not Delta's. Like Spark, it skips names that begin with _ or a dot."""
    if table.is_file():
        return [table]
    files = [file for file in table.rglob("*") if file.is_file() and file.suffix in _SUFFIXES]
    return sorted(file for file in files if not any(part[0] in "_." for part in file.relative_to(table).parts))


def _columns_of_folders(file: Path) -> dict[str, str | None]:
    """Return the columns that the names of a file's folders hold, as in split=test."""
    pairs = (part.split("=", 1) for part in file.parts[:-1] if "=" in part)
    return {unquote(name): None if value == _NULL_FOLDER else unquote(value) for name, value in pairs}


def _parquet_rows(
    file: Path, columns: Sequence[str], optional_columns: Sequence[str], folder_columns: Sequence[str]
) -> list[dict[str, Any]]:
    try:
        with pq.ParquetFile(file) as parquet:
            present = parquet.schema_arrow.names
            _refuse_missing_columns(columns, [*present, *folder_columns], file)
            chosen = [*columns, *(name for name in optional_columns if name in present)]
            rows: list[dict[str, Any]] = parquet.read(columns=chosen).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{file} can't be read: {str(error).splitlines()[0]}") from None
    return rows


def _json_rows(
    file: Path, columns: Sequence[str], optional_columns: Sequence[str], folder_columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines, or of one array of objects."""
    rows, present = [], dict.fromkeys(folder_columns)
    for location, row in _json_objects(file):
        if not isinstance(row, dict):
            raise TrainingError(f"{file}: {location} is no JSON object, as in {{{json.dumps(columns[0])}: ...}}")
        present |= dict.fromkeys(row)
        rows.append(
            {name: row.get(name) for name in columns} | {name: row[name] for name in optional_columns if name in row}
        )
    if rows:
        _refuse_missing_columns(columns, list(present), file)
    return rows


def _json_objects(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield location and value of each object in a JSON file. The standard parser takes a line of any length."""
    location = "the file"
    try:
        with file.open(encoding="utf-8-sig") as lines:
            is_array = lines.read(1) == "["
            lines.seek(0)
            if is_array:
                yield from ((f"row {number}", row) for number, row in enumerate(json.load(lines), 1))
                return
            for number, line in enumerate(lines, 1):
                location = f"line {number}"
                if line.strip():
                    yield location, json.loads(line)
    except UnicodeDecodeError as error:
        raise TrainingError(f"{file} is not in UTF-8 ({error.reason}); convert it") from None
    except json.JSONDecodeError as error:
        raise TrainingError(f"{file}: {location} is no JSON ({error.msg}); write one object per line") from None


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _refuse_missing_columns(columns: Sequence[str], present: Sequence[str], path: Path) -> None:
    missing = [name for name in columns if name not in present]
    if missing:
        raise TrainingError(
            f"{path} lacks the column(s) {', '.join(missing)}; it has {', '.join(present)}: rename them, or name those "
            "of the texts and labels (--text-column, --labels-column)"
        )
