"""Results as JSON: the option --json, and documents of one line on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

import typer

from gliclass_spark.cli.console import end_of_pipe

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")
]


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document on one line and flush it. Characters that the output's encoding lacks are escaped."""
    line = json.dumps(document, ensure_ascii=False, default=_value)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(document, default=_value)
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        end_of_pipe()


def _value(value: object) -> object:
    if isinstance(value, date):  # and datetime
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
