"""Spark configuration: files of conf/spark."""

from __future__ import annotations

from pathlib import Path

import pytest

from gliclass_spark.config.spark import read_conf
from gliclass_spark.errors import ConfigError


def test_without_a_file_there_are_no_settings() -> None:
    assert read_conf(None) == {}


def test_values_become_strings_as_spark_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "gpu.yaml"
    path.write_text("spark.a: true\nspark.b: 2\nspark.c: text\nspark.worker.resource.gpu.discoveryScript: ./gpus.sh\n")
    assert read_conf(path) == {
        "spark.a": "true",
        "spark.b": "2",
        "spark.c": "text",
        "spark.worker.resource.gpu.discoveryScript": str(tmp_path / "gpus.sh"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- spark.a", " must hold `key: value` lines of Spark settings, found ['spark.a']"),
        ("master: local", ": unknown key 'master'; Spark's settings begin with 'spark.'"),
        ("spark.a: [1]", ": spark.a: expected a text, a number or true/false, found [1]"),
    ],
)
def test_anything_but_spark_settings_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_conf(path)
    assert str(caught.value) == f"{path}{message}"
