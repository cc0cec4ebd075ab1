"""Labelled text: tables of texts with their labels, for training and evaluation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gliclass_spark.errors import TrainingError
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.table_files import find_tables, read_rows

_MAX_LISTED = 5


@dataclass(frozen=True)
class LabelledSet:
    """Texts with their labels. targets: indices into `labels`, a tuple for each text.

    sources: the list, site or product that each text is from, whose labels tell texts of that source apart; "" for
    none. Empty if the set has no sources.
    """

    name: str
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    targets: tuple[tuple[int, ...], ...]
    sources: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, positions: Iterable[int]) -> LabelledSet:
        """Return the texts at these positions, in this order, with the same labels."""
        chosen = list(positions)
        return LabelledSet(
            self.name,
            self.labels,
            tuple(self.texts[row] for row in chosen),
            tuple(self.targets[row] for row in chosen),
            tuple(self.sources[row] for row in chosen) if self.sources else (),
        )

    def by_label(self) -> list[list[int]]:
        """Return the positions of each label's texts, in their order."""
        rows_by_label: list[list[int]] = [[] for _ in self.labels]
        for row, labels in enumerate(self.targets):
            for label in labels:
                rows_by_label[label].append(row)
        return rows_by_label

    def by_source(self) -> dict[str, list[int]]:
        """Return the positions of each source's texts, in their order."""
        rows_by_source: defaultdict[str, list[int]] = defaultdict(list)
        for row, source in enumerate(self.sources):
            if source:
                rows_by_source[source].append(row)
        return dict(rows_by_source)


@dataclass(frozen=True)
class Columns:
    """Column names of a labelled table. The column `labels` holds strings, or lists of strings.

    A table may lack the column `source`.
    """

    text: str = "text"
    labels: str = "labels"
    split: str = "split"
    source: str = "source"


def read_sets(path: Path, split: str | None = None, columns: Columns | None = None) -> list[LabelledSet]:
    """Return the labelled set of a table, or of each table of a folder by name (see `table_files.find_tables`).

    Rows without a text or without a label are left out. The labels are those of all splits, so that every split has
    the same ones. Raises TrainingError for a table that lacks a column, has fewer than two labels, or spells a label
    in two ways; TableError for a Delta table that can't be read.
    """
    return [_read_table(table, split, columns or Columns()) for table in find_tables(path)]


def in_label_set(labelled: LabelledSet, label_set: LabelSet) -> LabelledSet:
    """Return the texts with the labels of the label set, in its order. Raises TrainingError if it lacks one."""
    unknown = sorted(set(labelled.labels) - set(label_set.names))
    if unknown:
        raise TrainingError(
            f"{labelled.name} has {len(unknown)} label(s) that {label_set.name!r} lacks: "
            f"{', '.join(unknown[:_MAX_LISTED])}; label the texts with the names of the label set"
        )
    positions = [label_set.names.index(name) for name in labelled.labels]
    targets = tuple(tuple(positions[label] for label in labels) for labels in labelled.targets)
    return LabelledSet(labelled.name, label_set.names, labelled.texts, targets, labelled.sources)


def few_shot(labelled: LabelledSet, shots: int, seed: int) -> LabelledSet:
    """Return at most `shots` texts of each label, drawn with the seed; `rare_labels` are those with fewer."""
    rng = np.random.default_rng(seed)
    drawn = {int(row) for rows in labelled.by_label() for row in rng.permutation(rows)[:shots]}
    return labelled.rows(sorted(drawn))


def rare_labels(labelled: LabelledSet, shots: int) -> dict[str, int]:
    """Return labels with fewer than `shots` texts, the rarest first, and their numbers of texts."""
    counts = zip(labelled.labels, map(len, labelled.by_label()), strict=True)
    return {name: count for name, count in sorted(counts, key=lambda item: item[1]) if count < shots}


def shared_texts(one: LabelledSet, other: LabelledSet) -> frozenset[int]:
    """Return the positions in `one` of texts that are in `other`, too, up to white space and case."""
    other_texts = {normalized_text(text) for text in other.texts}
    return frozenset(row for row, text in enumerate(one.texts) if normalized_text(text) in other_texts)


def _read_table(path: Path, split: str | None, columns: Columns) -> LabelledSet:
    names = [columns.text, columns.labels, *([columns.split] if split else [])]
    rows = read_rows(path, names, [] if columns.source in names else [columns.source])
    kept = [
        (
            row[columns.text] or "",
            _label_names(row[columns.labels], path),
            row.get(columns.split),
            row.get(columns.source),
        )
        for row in rows
    ]
    if not all(isinstance(text, str) for text, *_ in kept):
        raise TrainingError(f"the column {columns.text!r} of {path} holds values that are no strings; name another")
    kept = [row for row in kept if row[0].strip() and row[1]]
    labels = tuple(sorted({name for _, row_labels, *_ in kept for name in row_labels}))
    if len(labels) < 2:
        raise TrainingError(f"{path} has {len(labels)} label(s); at least two are needed")
    _refuse_two_spellings(labels, path)
    index = {name: position for position, name in enumerate(labels)}
    chosen = [row for row in kept if split is None or row[2] == split]
    if not chosen:
        splits = ", ".join(sorted({str(row[2]) for row in kept}))
        raise TrainingError(f"{path} has no row of the split {split!r}; it has {splits}")
    targets = tuple(tuple(sorted({index[name] for name in row_labels})) for _, row_labels, *_ in chosen)
    sources = tuple("" if source is None else str(source) for *_, source in chosen)
    texts = tuple(text for text, *_ in chosen)
    return LabelledSet(path.stem, labels, texts, targets, sources if any(sources) else ())


def _label_names(value: object, path: Path) -> tuple[str, ...]:
    names = []
    for name in value if isinstance(value, list) else [value]:
        if name is not None and not isinstance(name, str):
            raise TrainingError(
                f"{path}: the label {name!r} is no text; the model reads labels as words: give their names instead of "
                "numbers"
            )
        names.append((name or "").strip())
    return tuple(name for name in names if name)


def _refuse_two_spellings(labels: Sequence[str], path: Path) -> None:
    by_letters: defaultdict[str, list[str]] = defaultdict(list)
    for name in labels:
        by_letters[letters(name)].append(name)
    ambiguous = [names for names in by_letters.values() if len(names) > 1]
    if ambiguous:
        examples = "; ".join(" and ".join(map(repr, names)) for names in ambiguous[:_MAX_LISTED])
        raise TrainingError(f"{path} has {len(ambiguous)} label(s) under two spellings: {examples}; write each one way")


def letters(name: str) -> str:
    """Return what two spellings of a label share: its letters and digits, in lower case.

    Labels of symbols alone ("+", "-") are returned as they are; C, C++ and C# are different names.
    """
    return re.sub(r"[^\w+#]+|_", "", name.casefold()) or name


def normalized_text(text: str) -> str:
    """Return the text in lower case, with single spaces: texts that differ in that alone are one."""
    return " ".join(text.casefold().split())
