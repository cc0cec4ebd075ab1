"""The labelled sets that the embedded model is trained on, copied out of a folder of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from devtools.training_data.mixture import ListedSet, listed_sets, mixture_files, with_one_spelling
from gliclass_spark.errors import TrainingError
from gliclass_spark.training.data.labelled_text import read_sets

ROOT = Path(__file__).parents[3]
DATA = ROOT.parent / "shared" / "data" / "zero_shot"
LISTED = {
    "first": {
        "mail": ListedSet(licence="MIT", group="requests"),
        "tweets": ListedSet(licence="research use", group="opinion", not_in_product="research use alone"),
    },
    "second": {"berichte": ListedSet(licence="MIT", group="topics", language="other")},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder, names in LISTED.items():
        (tmp_path / folder).mkdir()
        for name in names:
            write(tmp_path / folder / f"{name}.parquet", [("a text", ["spam"]), ("another", ["no spam"])])
    return tmp_path


def write(path: Path, rows: list[tuple[str, list[str]]]) -> None:
    texts, labels = zip(*rows, strict=True)
    pq.write_table(pa.table({"text": texts, "labels": labels, "split": ["train"] * len(rows)}), path)


def names(files: list[Path]) -> list[str]:
    return [file.stem for file in files]


def test_a_product_mixture_has_english_sets_whose_licence_allows_it(data: Path) -> None:
    assert names(mixture_files(data, LISTED, "product")) == ["mail"]
    assert names(mixture_files(data, LISTED, "all")) == ["mail", "tweets"]
    assert names(mixture_files(data, LISTED, "all", without=["mail"])) == ["tweets"]


def test_a_mixture_has_other_languages_if_the_command_says_so(data: Path) -> None:
    assert names(mixture_files(data, LISTED, "product", "all")) == ["mail", "berichte"]
    assert names(mixture_files(data, LISTED, "all", "all")) == ["mail", "tweets", "berichte"]


def test_sets_without_a_file_unlisted_files_and_unknown_names_are_refused(data: Path) -> None:
    with pytest.raises(TrainingError, match=r"no set is named mial; sets.yaml has the names"):
        mixture_files(data, LISTED, "all", without=["mial"])
    (data / "first" / "mail.parquet").rename(data / "second" / "post.parquet")
    with pytest.raises(TrainingError, match=r"first lacks mail; add the files, or leave out with --without"):
        mixture_files(data, LISTED, "product")
    with pytest.raises(TrainingError, match=r"second has sets that sets.yaml doesn't list: post; add them"):
        mixture_files(data, LISTED, "product", without=["mail"])


def test_a_label_keeps_its_most_frequent_spelling() -> None:
    rows = [
        {"text": "1", "labels": ["air mail", "C++"], "split": "train"},
        {"text": "2", "labels": ["Air-mail ", "C"], "split": "test"},
        {"text": "3", "labels": ["air mail", "airmail"], "split": "train"},
    ]
    assert with_one_spelling(rows) == [
        {"text": "1", "labels": ["C++", "air mail"], "split": "train"},
        {"text": "2", "labels": ["C", "air mail"], "split": "test"},
        {"text": "3", "labels": ["air mail"], "split": "train"},
    ]


def test_every_set_says_why_a_product_leaves_it_out() -> None:
    sets = listed_sets()
    assert all(listed.not_in_product for listed in sets["train2_research"].values())


@pytest.mark.skipif(not DATA.exists(), reason=f"the labelled sets are not in {DATA}")
def test_the_command_writes_tables_that_a_training_reads(tmp_path: Path) -> None:
    chosen = mixture_files(DATA, listed_sets(), "product")
    assert len(chosen) == 111
    kept = {"email_request", "poem_sentiment"}
    of_train2 = set(names(chosen)) - set(listed_sets()["train"])
    arguments = ["mixture", DATA, tmp_path / "out", "--folders", "train2", "--without"]
    command = [sys.executable, "-m", "devtools.training_data", *arguments]
    done = subprocess.run(
        [*map(str, command), *sorted(of_train2 - kept)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "poem_sentiment: 1,101 texts, 4 labels" in done.stdout
    assert {labelled.name for labelled in read_sets(tmp_path / "out", "train")} == kept
