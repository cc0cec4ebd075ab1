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
from gliclass_spark.training.data.table_files import data_version

ROWS: dict[str, list[Any]] = {
    "text": ["x", "y", "", "z", None],
    "labels": [["a"], ["b", "a"], ["a"], ["c"], ["a"]],
    "split": ["train", "test", "train", "test", "test"],
}
LETTERS = LabelledSet("letters", ("a", "b", "c"), ("y", "z"), ((0, 1), (2,)))


def written(folder: Path, kind: str, rows: dict[str, list[Any]] = ROWS) -> Path:
    table = pa.table(rows)
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


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "delta"])
def test_the_source_of_each_text_is_read_where_a_table_has_one(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind, {**ROWS, "source": ["one", None, "two", "two", "one"]})
    [letters] = read_sets(path)
    assert letters.sources == ("one", "", "two")
    assert letters.by_source() == {"one": [0], "two": [2]}
    assert letters.rows([2]).sources == ("two",)


def test_columns_may_have_other_names_and_labels_may_be_strings(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x", "y"], "topic": ["a", "b"]}), tmp_path / "mail.parquet")
    assert read_sets(tmp_path, columns=Columns(text="body", labels="topic")) == [
        LabelledSet("mail", ("a", "b"), ("x", "y"), ((0,), (1,)))
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"text": ["x"], "label": ["a"]},
            r"t\.parquet lacks the column\(s\) labels; it has text, label: .*--labels",
        ),
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


def test_names_with_plus_or_number_sign_are_different_labels(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x", "y", "z"], "labels": ["C", "C++", "C#"]}), tmp_path / "t.parquet")
    assert read_sets(tmp_path)[0].labels == ("C", "C#", "C++")


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


def written_by_spark(folder: Path) -> Path:
    """A table as Spark writes it, with its rows in two parts for each split."""
    for split in ("train", "test"):
        part = pa.table({name: ROWS[name] for name in ("text", "labels")})
        rows = [row for row, of_split in enumerate(ROWS["split"]) if of_split == split]
        for number, row in enumerate(rows):
            path = folder / "letters.parquet" / f"split={split}" / f"part-{number:05}-8d2a.c000.snappy.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(part.take([row]), path)
    (folder / "letters.parquet" / "_SUCCESS").touch()
    return folder / "letters.parquet"


def test_a_folder_of_parts_is_one_table_also_with_folders_of_a_column(tmp_path: Path) -> None:
    table = written_by_spark(tmp_path)
    assert read_sets(table, "test") == [LETTERS]
    assert read_sets(tmp_path, "test") == [LETTERS]
    lines = tmp_path / "lines"
    for number, row in enumerate(pa.table(ROWS).to_pylist()):
        part = lines / "letters" / f"part-0000{number}.json"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(row) + "\n")
    assert read_sets(lines, "test") == read_sets(lines / "letters", "test") == [LETTERS]


def test_the_version_of_a_folder_of_parts_changes_with_any_of_them(tmp_path: Path) -> None:
    table = written_by_spark(tmp_path)
    before = data_version(table)
    assert before == data_version(table)
    next(table.rglob("part-00001*")).unlink()
    assert before != data_version(table)


def test_a_line_may_have_megabytes(tmp_path: Path) -> None:
    rows = [{"text": "word " * 600_000, "labels": ["a"]}, {"text": "2026-01-01", "labels": ["b"]}]
    (tmp_path / "big.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_sets(tmp_path / "big.jsonl") == [
        LabelledSet("big", ("a", "b"), (rows[0]["text"], "2026-01-01"), ((0,), (1,)))
    ]


def test_an_array_of_objects_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "letters.json").write_text(json.dumps(pa.table(ROWS).to_pylist(), indent=2))
    assert read_sets(tmp_path / "letters.json", "test") == [LETTERS]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("latin.jsonl", '{"text": "x"}\n{"text": "Grüße"}\n'.encode("latin-1"), "is not in UTF-8 .*; convert it"),
        ("cut.jsonl", b'{"text": "x", "labels": "a"}\n{"text": "y", "la', "line 2 is no JSON .*; write one object per"),
        ("texts.jsonl", b'"x"\n', r"line 1 is no JSON object, as in \{\"text\": ...\}"),
        ("mail.csv", b"text,labels\nx,a\n", "mail.csv is no table; give a .parquet file, a .jsonl file"),
        ("mail.parquet", b"PAR1 but no more", "mail.parquet can't be read"),
        (
            "numbers.jsonl",
            b'{"text": "x", "labels": 0}\n{"text": "y", "labels": 1}\n',
            "the label 0 is no text; .* give",
        ),
        ("lists.jsonl", b'{"text": "x", "labels": ["a", true]}\n', "the label True is no text"),
    ],
)
def test_a_file_that_can_not_be_read_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError, match=message) as raised:
        read_sets(tmp_path / name)
    assert "\n" not in str(raised.value)
