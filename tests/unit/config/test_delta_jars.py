"""Delta's jars: fetched only where they are not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gliclass_spark.config.delta_jars import delta_settings


@pytest.fixture
def pyspark_jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of jars of a fake pyspark, first in sys.path."""
    jars = tmp_path / "pyspark" / "jars"
    jars.mkdir(parents=True)
    (jars.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    # find_spec returns the spec of an imported module without a search.
    monkeypatch.delitem(sys.modules, "pyspark", raising=False)
    return jars


def test_without_jars_delta_is_fetched(pyspark_jars: Path) -> None:
    (pyspark_jars / "spark-core_2.13-4.2.0.jar").touch()
    fetched = delta_settings({"spark.master": "local[*]"})
    assert fetched["spark.jars.packages"] == "io.delta:delta-spark_4.2_2.13:4.4.0"
    assert not {"io.delta:*", "io.unitycatalog:*"} & set(fetched["spark.jars.excludes"].split(","))


def test_nothing_is_fetched_if_delta_is_among_the_jars_of_spark(pyspark_jars: Path) -> None:
    (pyspark_jars / "delta-spark_4.2_2.13-4.4.0.jar").touch()
    assert delta_settings({}) == {}


@pytest.mark.parametrize("key", ["spark.jars", "spark.jars.packages"])
def test_settings_with_jars_are_not_changed(key: str, pyspark_jars: Path) -> None:
    assert delta_settings({key: "a.jar"}) == {}
