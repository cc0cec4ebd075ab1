"""A pipeline of ten documents, two of which can't be scored, for tests of incremental and of interrupted runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delta_pipeline import pipeline_of
from pyspark.sql import DataFrame, SparkSession

from gliclass_spark.spark.jobs import PipelineRun

TEXTS = {
    **{f"plain-{number}": f"document number {number} speaks of a lake of data" for number in range(6)},
    "short": "short",
    "shop": "buy this boat for the lake",
    "null": None,
    "blank": "  ",
}
_SETTINGS: dict[str, Any] = {
    "source": {"path": "mail", "id": "id", "text": "body"},
    "reject": [{"reason": "too_short", "when": "token_count < 4"}, {"reason": "old", "when": "lang = 'old'"}],
    "routes": [
        {"route": "shop", "when": "lower(body) like '%buy%'"},
        {"route": "water", "when": "body like '%lake%'"},
    ],
    "routing": "every_match",
}


def create_mail(spark: SparkSession, folder: Path) -> None:
    """Write the documents to the table `folder`/mail, which has a change data feed."""
    writer = _documents(spark, TEXTS).write.format("delta").option("delta.enableChangeDataFeed", "true")
    writer.save(str(folder / "mail"))


def mail_run(spark: SparkSession, folder: Path, model: str, **settings: Any) -> PipelineRun:
    """Return the run "run-1" of the pipeline of `folder`/mail, with these settings in place of its own."""
    return PipelineRun(spark, pipeline_of(folder, model, **{**_SETTINGS, **settings}), "run-1", precision="float32")


def add(run: PipelineRun, **texts: str) -> None:
    """Append documents to the source."""
    _documents(run.spark, texts).write.format("delta").mode("append").save(str(run.pipeline.source.path))


def _documents(spark: SparkSession, texts: Mapping[str, str | None]) -> DataFrame:
    rows = [(key, text, "xx") for key, text in texts.items()]
    return spark.createDataFrame(rows, "id string, body string, lang string").coalesce(1)
