"""A training continues in its folder only with the settings, the data and the model that its checkpoints are from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gliclass_spark.checkpoints.digest import digest_of
from gliclass_spark.cli.app import main
from gliclass_spark.training.continuation import data_digest
from gliclass_spark.training.data.labelled_text import LabelledSet

KINDS = ("cat", "dog", "owl")


def write_animals(path: Path, texts: str = "a {}") -> None:
    pq.write_table(pa.table({"text": [texts.format(kind) for kind in KINDS], "labels": list(KINDS)}), path)


Train = Callable[..., int]


@pytest.fixture
def train(tiny_label_cached_model: str, tmp_path: Path) -> Train:
    write_animals(tmp_path / "animals.parquet")
    (tmp_path / "training.yaml").write_text("sampling: {texts: 2}\nsteps: 2\n")

    def run(*options: str) -> int:
        paths = {"data": tmp_path / "animals.parquet", "out": tmp_path / "out", "config": tmp_path / "training.yaml"}
        given = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
        return main(["train", *given, "--model", tiny_label_cached_model, *options])

    return run


def test_a_finished_training_that_is_run_again_stays_as_it_is(train: Train, tmp_path: Path) -> None:
    assert train() == 0
    before = digest_of(tmp_path / "out")
    assert train() == 0
    assert digest_of(tmp_path / "out") == before


def test_checkpoints_of_other_settings_data_or_weights_are_refused(
    train: Train, tiny_bi_encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train() == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}

    def refusal(*options: str) -> str:
        assert train(*options) == 2
        return " ".join(capsys.readouterr().err.split())

    assert "checkpoints of another training: seed 0, now 5; steps 2, now 3; give another folder" in refusal(
        "--seed", "5", "--steps", "3"
    )
    assert "another training: model " in refusal("--model", tiny_bi_encoder)
    (tmp_path / "training.yaml").write_text("sampling: {texts: 3}\nsteps: 2\n")
    assert "another training: sampling.texts 2, now 3; give" in refusal()
    (tmp_path / "training.yaml").write_text("sampling: {texts: 2}\nsteps: 2\n")
    write_animals(tmp_path / "animals.parquet", "the {}")
    assert "another training: data " in refusal()
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_a_training_that_was_refused_is_no_obstacle_to_the_next(train: Train, tmp_path: Path) -> None:
    (tmp_path / "training.yaml").write_text("sampling: {texts: 2}\nsteps: 9\nhead_lr: 1.0e+30\n")
    assert train() == 2
    assert not (tmp_path / "out" / "model.safetensors").exists()
    (tmp_path / "training.yaml").write_text("sampling: {texts: 2}\nsteps: 2\n")
    assert train() == 0


def test_the_digest_of_data_depends_on_all_of_it() -> None:
    animals = LabelledSet("animals", KINDS, ("a cat", "a dog"), ((0,), (1,)), ("zoo", "zoo"))
    others = [
        LabelledSet("pets", KINDS, ("a cat", "a dog"), ((0,), (1,)), ("zoo", "zoo")),
        LabelledSet("animals", (*KINDS, "fox"), ("a cat", "a dog"), ((0,), (1,)), ("zoo", "zoo")),
        LabelledSet("animals", KINDS, ("a dog", "a cat"), ((0,), (1,)), ("zoo", "zoo")),
        LabelledSet("animals", KINDS, ("a cat", "a dog"), ((0,), (0, 1)), ("zoo", "zoo")),
        LabelledSet("animals", KINDS, ("a cat", "a dog"), ((0,), (1,)), ("zoo", "farm")),
    ]
    assert data_digest([animals]) == data_digest([animals.rows([0, 1])])
    assert data_digest([animals]) not in {data_digest([other]) for other in others}
