"""Delta's jars are fetched where they are not there yet, and nowhere else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gliclass_spark.config.delta_jars import delta_settings


@pytest.fixture
def own_jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the jars of a pyspark that is found before any other."""
    jars = tmp_path / "pyspark" / "jars"
    jars.mkdir(parents=True)
    (jars.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    # A module that is imported already would be found by its own word.
    monkeypatch.delitem(sys.modules, "pyspark", raising=False)
    return jars


def test_without_jars_delta_is_fetched(own_jars: Path) -> None:
    (own_jars / "spark-core_2.13-4.2.0.jar").touch()
    fetched = delta_settings({"spark.master": "local[*]"})
    assert fetched["spark.jars.packages"] == "io.delta:delta-spark_4.2_2.13:4.4.0"
    assert not {"io.delta:*", "io.unitycatalog:*"} & set(fetched["spark.jars.excludes"].split(","))


def test_with_deltas_jar_among_sparks_own_nothing_is_fetched(own_jars: Path) -> None:
    (own_jars / "delta-spark_4.2_2.13-4.4.0.jar").touch()
    assert delta_settings({}) == {}


@pytest.mark.parametrize("key", ["spark.jars", "spark.jars.packages"])
def test_settings_that_name_jars_are_taken_at_their_word(key: str, own_jars: Path) -> None:
    assert delta_settings({key: "a.jar"}) == {}
