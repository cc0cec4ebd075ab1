"""Spark configuration: the files of conf/spark."""

from __future__ import annotations

import os
from pathlib import Path

from gliclass_spark import yaml_loader
from gliclass_spark.errors import ConfigError


def read_conf(path: str | Path | None) -> dict[str, str]:
    """Return the Spark settings in a file of conf/spark; none without a file.

    A discovery script's relative path is resolved from the folder of the file. Raises ConfigError with file and key.
    """
    if path is None:
        return {}
    document = yaml_loader.load(path)
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold `key: value` lines of Spark settings, found {document!r}")
    settings: dict[str, str] = {}
    for key, value in document.items():
        if not isinstance(key, str) or not key.startswith("spark."):
            raise ConfigError(f"{path}: unknown key {key!r}; Spark's settings begin with 'spark.'")
        if not isinstance(value, (str, int, float, bool)):
            raise ConfigError(f"{path}: {key}: expected a text, a number or true/false, found {value!r}")
        settings[key] = str(value).lower() if isinstance(value, bool) else str(value)
        if key.endswith(".discoveryScript"):
            settings[key] = os.path.normpath(Path(path).absolute().parent / settings[key])
    return settings
