"""Some documents behind each outcome of a run, for people to look at."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame, Row

from gliclass_spark.errors import TableError
from gliclass_spark.report import Document, Outcome, Sample
from gliclass_spark.spark.changes import DeltaAddress
from gliclass_spark.spark.schema import KEY
from gliclass_spark.spark.steps.run import Run

SAMPLES = 3
_TEXT_CHARS = 600


def samples(run: Run, outcomes: list[Outcome]) -> list[Sample]:
    """Up to SAMPLES documents of each outcome, the same ones every time."""
    return [Sample(outcome, _documents(run, outcome)) for outcome in outcomes]


def document(row: Row, text: str) -> Document:
    """A row of a decision's table; `text` names the column of the text."""
    error = row["error"]
    scores = {label: row["scores"][label] for label in row["labels"]}
    return Document(row[KEY], _readable(row[text]), scores, error["message"] if error else None)


def _documents(run: Run, outcome: Outcome) -> list[Document]:
    address = DeltaAddress(path=outcome.path)
    try:
        found = _rows(address.read(run.spark, outcome.version), outcome)
    except TableError:  # the version was vacuumed: the table as it is now is the next best
        found = _rows(address.read(run.spark, None), outcome)
    return [document(row, run.pipeline.source.text) for row in found]


def _rows(table: DataFrame, outcome: Outcome) -> list[Row]:
    chosen = table.where(outcome.where) if outcome.where else table
    return chosen.orderBy("content_hash", KEY).limit(SAMPLES).collect()


def _readable(text: Any) -> str | None:
    if isinstance(text, (bytes, bytearray)):
        text = bytes(text[: 4 * _TEXT_CHARS]).decode("utf-8", errors="replace")
    return None if text is None else str(text)[:_TEXT_CHARS]
