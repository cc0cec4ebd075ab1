"""Labelled text: what a model learns from, and what it is judged by."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from gliclass_spark.errors import TrainingError
from gliclass_spark.runs.delta_reader import delta_table, query

_JSON_LINES = (".jsonl", ".ndjson", ".json")
_LISTED = 5


@dataclass(frozen=True)
class LabelledSet:
    """Texts with the labels of one label set. `targets` holds indices into `labels`, one tuple a text."""

    name: str
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    targets: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, positions: Iterable[int]) -> LabelledSet:
        """The same question on these texts alone, in this order."""
        chosen = list(positions)
        return LabelledSet(
            self.name,
            self.labels,
            tuple(self.texts[row] for row in chosen),
            tuple(self.targets[row] for row in chosen),
        )

    def by_label(self) -> list[list[int]]:
        """For each label the positions of its texts, in their order."""
        found: list[list[int]] = [[] for _ in self.labels]
        for row, true in enumerate(self.targets):
            for label in true:
                found[label].append(row)
        return found


@dataclass(frozen=True)
class Columns:
    """The names of a labelled table's columns. `labels` holds strings, or lists of strings."""

    text: str = "text"
    labels: str = "labels"
    split: str = "split"


def read_sets(path: Path, split: str | None = None, columns: Columns | None = None) -> list[LabelledSet]:
    """A table, or every table of a folder by name: Parquet, JSON lines, Delta.

    Rows without a text or without a label are left out. The label set is that of the whole table, so
    that every split asks the same question. Raises TrainingError for a table that lacks a column,
    has fewer than two labels, or a label under two spellings; TableError for a Delta table that
    can't be read.
    """
    tables = _tables(path)
    if not tables:
        raise TrainingError(
            f"{path} holds no table; give a .parquet file, a .jsonl file, a Delta table, or a folder of them"
        )
    return [_read(each, split, columns or Columns()) for each in tables]


def data_version(path: Path) -> str:
    """What `read_sets` reads there: a Delta table's version, or the sha-256 of the files, by which to know it again."""
    if _is_delta(path):
        return str(delta_table(str(path)).version())
    digest = hashlib.sha256()
    for table in _tables(path):
        version = data_version(table) if _is_delta(table) else hashlib.sha256(table.read_bytes()).hexdigest()
        digest.update(f"{table.name} {version}\n".encode())
    return digest.hexdigest()


def few_shot(labelled: LabelledSet, shots: int, seed: int) -> LabelledSet:
    """At most `shots` texts of each label, drawn by the seed: what a user would label by hand.

    `rare_labels` tells which labels get fewer, or none.
    """
    rng = np.random.default_rng(seed)
    drawn = {int(row) for rows in labelled.by_label() for row in rng.permutation(rows)[:shots]}
    return labelled.rows(sorted(drawn))


def rare_labels(labelled: LabelledSet, shots: int) -> dict[str, int]:
    """Labels with fewer texts than `shots`, the rarest first, and how many they have: `few_shot` takes all of these."""
    counts = zip(labelled.labels, map(len, labelled.by_label()), strict=True)
    return {name: count for name, count in sorted(counts, key=lambda each: each[1]) if count < shots}


def shared_texts(one: LabelledSet, other: LabelledSet) -> frozenset[int]:
    """The positions in `one` of texts that stand in `other` too, white space and case aside."""
    known = {_plain(text) for text in other.texts}
    return frozenset(row for row, text in enumerate(one.texts) if _plain(text) in known)


def _tables(path: Path) -> list[Path]:
    if path.is_file() or _is_delta(path):
        return [path]
    if not path.is_dir():
        raise TrainingError(f"there is nothing at {path}; give a table or a folder of tables")
    return sorted(each for each in path.iterdir() if each.suffix in {".parquet", *_JSON_LINES} or _is_delta(each))


def _is_delta(path: Path) -> bool:
    return (path / "_delta_log").is_dir()


def _read(path: Path, split: str | None, columns: Columns) -> LabelledSet:
    wanted = [columns.text, columns.labels, *([columns.split] if split else [])]
    rows = _rows(path, wanted)
    kept = [(row[columns.text] or "", _names(row[columns.labels]), row.get(columns.split)) for row in rows]
    if not all(isinstance(text, str) for text, _, _ in kept):
        raise TrainingError(f"the column {columns.text!r} of {path} holds something else than strings; name another")
    kept = [row for row in kept if row[0].strip() and row[1]]
    labels = tuple(sorted({name for _, names, _ in kept for name in names}))
    if len(labels) < 2:
        raise TrainingError(f"{path} has {len(labels)} label(s); at least two are needed to tell texts apart")
    _refuse_spellings(labels, path)
    index = {name: position for position, name in enumerate(labels)}
    chosen = [row for row in kept if split is None or row[2] == split]
    if not chosen:
        splits = ", ".join(sorted({str(row[2]) for row in kept}))
        raise TrainingError(f"{path} has no row of the split {split!r}; it has {splits}")
    targets = tuple(tuple(sorted({index[name] for name in names})) for _, names, _ in chosen)
    return LabelledSet(path.stem, labels, tuple(text for text, _, _ in chosen), targets)


def _rows(path: Path, wanted: Sequence[str]) -> list[dict[str, Any]]:
    if _is_delta(path):
        table = delta_table(str(path))
        _refuse_missing(wanted, [field.name for field in table.schema().fields], path)
        return query(table, f"select {', '.join(_quoted(name) for name in wanted)} from t")  # noqa: S608
    try:
        read = pq.read_table(path) if path.suffix == ".parquet" else pyarrow.json.read_json(path)
    except pa.ArrowInvalid as error:
        raise TrainingError(f"{path} can't be read: {str(error).splitlines()[0]}") from None
    _refuse_missing(wanted, read.column_names, path)
    rows: list[dict[str, Any]] = read.select(list(wanted)).to_pylist()
    return rows


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _refuse_missing(wanted: Sequence[str], found: Sequence[str], path: Path) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise TrainingError(
            f"{path} lacks the column(s) {', '.join(missing)}; it has {', '.join(found)}: rename them, or name yours"
        )


def _names(value: object) -> tuple[str, ...]:
    found = value if isinstance(value, list) else [value]
    return tuple(str(name).strip() for name in found if name is not None and str(name).strip())


def _refuse_spellings(labels: Sequence[str], path: Path) -> None:
    by_letters: defaultdict[str, list[str]] = defaultdict(list)
    for name in labels:
        # Labels of nothing but signs ("+", "-") have no letters to compare.
        by_letters[re.sub(r"[\W_]+", "", name.casefold()) or name].append(name)
    double = [names for names in by_letters.values() if len(names) > 1]
    if double:
        listed = "; ".join(" and ".join(map(repr, names)) for names in double[:_LISTED])
        raise TrainingError(f"{path} has {len(double)} label(s) under two spellings: {listed}; write each one way")


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
