"""Where the page of a run stands: beside the run's tables, so that whoever reads these can read it."""

from __future__ import annotations

import re

import fsspec

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.delta_reader import StorageOptions, store_address


def address(pipeline: Pipeline, run_id: str) -> str:
    """The file. A run's id may hold what a file's name can't: that becomes `-`."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", run_id)
    return f"{store_address(pipeline.tables.rstrip('/'))}/reports/{name}.html"


def write(pipeline: Pipeline, run_id: str, html: str, storage_options: StorageOptions = None) -> str:
    """Write the page, and give its address."""
    target = address(pipeline, run_id)
    with fsspec.open(target, "w", encoding="utf-8", auto_mkdir=True, **(storage_options or {})) as file:
        file.write(html)
    return target


def read(pipeline: Pipeline, run_id: str, storage_options: StorageOptions = None) -> str | None:
    """The page; None if there is none yet."""
    try:
        with fsspec.open(address(pipeline, run_id), "r", encoding="utf-8", **(storage_options or {})) as file:
            return str(file.read())
    except FileNotFoundError:
        return None
