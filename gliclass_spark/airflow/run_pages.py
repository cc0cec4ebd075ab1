"""Run pages: the HTML reports in the folder `reports` beside a pipeline's tables."""

from __future__ import annotations

from pathlib import Path

import fsspec

from gliclass_spark import atomic_files
from gliclass_spark.config.catalog import table_path
from gliclass_spark.config.paths import has_scheme
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.delta_reader import StorageOptions, object_store_uri
from gliclass_spark.runs.file_names import file_name


def page_path(pipeline: Pipeline, run_id: str) -> str:
    """Return the path or URI of a run's page."""
    return f"{object_store_uri(table_path(pipeline.tables, 'reports'))}/{file_name(run_id)}.html"


def write(pipeline: Pipeline, run_id: str, html: str, storage_options: StorageOptions = None) -> str:
    """Write a run's page, and return its path or URI."""
    path = page_path(pipeline, run_id)
    if has_scheme(path):  # an object appears in one step
        with fsspec.open(path, "w", encoding="utf-8", auto_mkdir=True, **(storage_options or {})) as file:
            file.write(html)
    else:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        atomic_files.write_text(Path(path), html)
    return path


def read(pipeline: Pipeline, run_id: str, storage_options: StorageOptions = None) -> str | None:
    """Return a run's page, None if it has not been written yet."""
    try:
        with fsspec.open(page_path(pipeline, run_id), "r", encoding="utf-8", **(storage_options or {})) as file:
            return str(file.read())
    except FileNotFoundError:
        return None
