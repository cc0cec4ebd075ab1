"""A registry that version 0.1 wrote, opened with the code as it is: its champion, the one before, and their files."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.engine import Engine

EARLIER = Path(__file__).parents[3] / "data" / "written_by_0.1"
EXPECTED = json.loads((EARLIER / "expected.json").read_text(encoding="utf-8"))["registry"]
NAME, VERSIONS = EXPECTED["name"], EXPECTED["versions"]


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The registry in a folder of its own; it is the one that addresses of registered models are looked up in."""
    folder = shutil.copytree(EARLIER / "registry", tmp_path / "registry")
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.executescript((folder / "mlflow.sql").read_text(encoding="utf-8").replace("@ROOT@", str(folder)))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("GLICLASS_SPARK_CACHE", str(tmp_path / "cache"))
    return Registry()


def champion() -> str:
    return resolve_model(f"models:/{NAME}@champion").digest


def test_its_versions_have_their_digests_aliases_and_tags(earlier: Registry) -> None:
    versions = {str(v.number): (v.digest, v.aliases, v.tags) for v in earlier.versions(NAME)}
    assert versions == {
        number: (known["digest"], tuple(known["aliases"]), known["tags"]) for number, known in VERSIONS.items()
    }


@pytest.mark.parametrize(("which", "number"), [("@champion", "2"), ("@previous", "1"), ("/1", "1"), ("/2", "2")])
def test_a_version_is_found_and_scores_as_it_did(earlier: Registry, which: str, number: str) -> None:
    address = f"models:/{NAME}{which}"
    assert resolve_model(address).digest == VERSIONS[number]["digest"]
    engine = Engine.from_pretrained(address, device="cpu", precision="float32")
    scores = engine.scores(EXPECTED["texts"], EXPECTED["labels"])
    assert scores == pytest.approx(np.array(VERSIONS[number]["scores"]), abs=1e-4)


def test_its_last_promotion_can_be_taken_back(earlier: Registry) -> None:
    assert champion() == VERSIONS["2"]["digest"]
    assert earlier.rollback(NAME).number == 1
    assert champion() == VERSIONS["1"]["digest"]
    assert earlier.version(NAME, "previous").number == 2
