"""YAML files: plain values, or a ConfigError in one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliclass_spark import yaml_loader
from gliclass_spark.errors import ConfigError


@given(st.text(max_size=40))
def test_any_text_is_loaded_or_refused_with_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        yaml_loader.load(path)
    except ConfigError as error:
        assert str(error).startswith(str(path))  # noqa: PT017
