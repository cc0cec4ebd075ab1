"""Arguments of operators, checked when the DAG is parsed: by TypeError and ValueError, as Airflow's own are."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from airflow.sdk import XComArg


def file_argument(name: str, value: Any) -> Any:
    """Return the path of a file as a text; a template, and another task's output, as they are."""
    if isinstance(value, XComArg):
        return value
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise TypeError(f"{name} must be the path of a YAML file, found {value!r}; give a text, a Path or a template")
    return os.fspath(value)


def time_argument(name: str, value: Any) -> Any:
    """Return a time in ISO 8601 as it is, and so a template, another task's output and None."""
    if value is None or isinstance(value, XComArg):
        return value
    expected = f"{name} must be a time such as '2026-03-01T02:00:00+00:00', found {value!r}; give a text or a template"
    if not isinstance(value, str):
        raise TypeError(expected)
    if "{" not in value:
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(expected) from None
    return value
