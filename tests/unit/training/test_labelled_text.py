"""Labelled text: tables of every format, and those that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from gliclass_spark.errors import TrainingError
from gliclass_spark.training.data.labelled_text import (
    Columns,
    LabelledSet,
    few_shot,
    rare_labels,
    read_sets,
    shared_texts,
)

ROWS: dict[str, list[Any]] = {
    "text": ["x", "y", "", "z", None],
    "labels": [["a"], ["b", "a"], ["a"], ["c"], ["a"]],
    "split": ["train", "test", "train", "test", "test"],
}
LETTERS = LabelledSet("letters", ("a", "b", "c"), ("y", "z"), ((0, 1), (2,)))


def written(folder: Path, kind: str) -> Path:
    table = pa.table(ROWS)
    if kind == "parquet":
        pq.write_table(table, folder / "letters.parquet")
        return folder / "letters.parquet"
    if kind == "jsonl":
        lines = [json.dumps(row) for row in table.to_pylist()]
        (folder / "letters.jsonl").write_text("\n".join(lines))
        return folder / "letters.jsonl"
    write_deltalake(str(folder / "letters"), table)
    return folder / "letters"


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "delta"])
def test_a_split_is_read_without_rows_that_lack_text_or_label(tmp_path: Path, kind: str) -> None:
    assert read_sets(written(tmp_path, kind), "test") == [LETTERS]


def test_a_folder_gives_one_set_for_each_table(tmp_path: Path) -> None:
    for kind in ("parquet", "delta"):
        written(tmp_path, kind)
    (tmp_path / "README.md").write_text("not a table")
    assert read_sets(tmp_path, "test") == [LETTERS, LETTERS]


def test_columns_may_have_other_names_and_labels_may_be_strings(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x", "y"], "topic": ["a", "b"]}), tmp_path / "mail.parquet")
    assert read_sets(tmp_path, columns=Columns(text="body", labels="topic")) == [
        LabelledSet("mail", ("a", "b"), ("x", "y"), ((0,), (1,)))
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["x"], "label": ["a"]}, r"t\.parquet lacks the column\(s\) labels; it has text, label: rename them"),
        ({"text": ["x", "y"], "labels": ["a", "a"]}, r"t\.parquet has 1 label\(s\); at least two are needed"),
        ({"text": ["x", "y"], "labels": pa.array([None, []], pa.list_(pa.string()))}, r"t\.parquet has 0 label\(s\)"),
        (
            {"text": ["x", "y", "z"], "labels": ["Credit card", "credit_card", "loan"]},
            r"t\.parquet has 1 label\(s\) under two spellings: 'Credit card' and 'credit_card'; write each one way",
        ),
        (
            {"text": [1, 2], "labels": ["a", "b"]},
            r"'text' of .*t\.parquet holds values that are no strings",
        ),
    ],
    ids=["no labels", "one class", "no label at all", "two spellings", "text of numbers"],
)
def test_a_table_without_usable_labels_is_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(TrainingError, match=message):
        read_sets(tmp_path)


def test_labels_of_symbols_are_different_labels(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x", "y"], "labels": ["+", "-"]}), tmp_path / "signs.parquet")
    assert read_sets(tmp_path)[0].labels == ("+", "-")


def test_an_unknown_split_is_refused_with_the_existing_ones(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"has no row of the split 'dev'; it has test, train"):
        read_sets(written(tmp_path, "parquet"), "dev")


@pytest.mark.parametrize("content", [None, "", b"PAR1 but no more"])
def test_a_path_without_a_table_is_refused(tmp_path: Path, content: str | bytes | None) -> None:
    if isinstance(content, bytes):
        (tmp_path / "broken.parquet").write_bytes(content)
    path = tmp_path if content is not None else tmp_path / "nowhere"
    with pytest.raises(TrainingError, match=r"holds no table|does not exist|can't be read"):
        read_sets(path)


def test_few_shot_draws_shots_of_each_label_by_the_seed() -> None:
    texts = tuple(f"{kind} {number}" for kind in "ab" for number in range(20))
    labelled = LabelledSet("letters", ("a", "b"), texts, ((0,),) * 20 + ((1,),) * 20)
    drawn = few_shot(labelled, 8, seed=1)
    assert [len(rows) for rows in drawn.by_label()] == [8, 8]
    assert drawn == few_shot(labelled, 8, seed=1) != few_shot(labelled, 8, seed=2)
    assert [len(rows) for rows in few_shot(labelled, 99, seed=1).by_label()] == [20, 20]


def test_labels_with_fewer_texts_than_shots_are_counted() -> None:
    labelled = LabelledSet("letters", ("a", "b", "c"), ("x", "y", "z"), ((0,), (0, 1), (0,)))
    assert list(rare_labels(labelled, 2).items()) == [("c", 0), ("b", 1)]
    assert rare_labels(labelled, 1) == {"c": 0}


def test_a_label_without_an_example_leaves_the_others_theirs() -> None:
    labelled = LabelledSet("letters", ("a", "b", "c"), ("x", "y"), ((0,), (2,)))
    assert few_shot(labelled, 8, seed=0) == labelled


def test_shared_texts_ignore_case_and_white_space() -> None:
    one = LabelledSet("one", ("a", "b"), ("A  text", "other", "a text"), ((0,), (1,), (0,)))
    other = LabelledSet("other", ("a", "b"), ("a text",), ((0,),))
    assert shared_texts(one, other) == {0, 2}
