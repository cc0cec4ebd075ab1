"""The report of a run: its manifests and sample documents, read without Spark and rendered as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gliclass_spark import report
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import TableError
from gliclass_spark.report import Outcome, Sample, SampleDocument
from gliclass_spark.runs.delta_reader import StorageOptions, delta_table, query
from gliclass_spark.runs.history import manifests, of_run
from gliclass_spark.runs.manifest import Manifest


@dataclass(frozen=True)
class Page:
    """The HTML report of a run, the manifests that it is about, and what it warns of, a line each."""

    manifests: Sequence[Manifest]
    html: str
    warnings: Sequence[str]


def page(pipeline: Pipeline, run_id: str | None, storage_options: StorageOptions = None) -> Page:
    """The report of a run (None: the latest). Raises TableError if there is no such run."""
    mine, before = of_run(manifests(pipeline, storage_options), run_id)
    outcomes = report.outcomes(mine, pipeline.tables)
    samples = [Sample(outcome, _documents(outcome, pipeline, storage_options)) for outcome in outcomes]
    html = report.render(mine, before, samples, label_set=pipeline.label_set)
    return Page(mine, html, report.warnings(mine, before))


def _documents(outcome: Outcome, pipeline: Pipeline, storage_options: StorageOptions) -> list[SampleDocument]:
    """Up to SAMPLES documents of the outcome, the same ones every time."""
    text = pipeline.source.text
    return [SampleDocument.of(row, text) for row in _rows(outcome, storage_options)]


def _rows(outcome: Outcome, storage_options: StorageOptions) -> list[dict[str, Any]]:
    conditions = " and ".join(f"{column} = {_literal(value)}" for column, value in outcome.values.items())
    where = f"where {conditions}" if conditions else ""
    sql = f"select * from t {where} order by content_hash, doc_id limit {report.SAMPLES}"  # noqa: S608 - quoted
    try:
        return query(delta_table(outcome.path, outcome.version, storage_options), sql)
    except TableError:  # the version was vacuumed: the table as it is now is the next best
        return query(delta_table(outcome.path, storage_options=storage_options), sql)


def _literal(text: str) -> str:
    """A string literal of standard SQL."""
    return "'" + text.replace("'", "''") + "'"
