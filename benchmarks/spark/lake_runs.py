"""Pipelines for benchmarks of the jobs, each in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import SparkSession

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.spark.jobs import PipelineRun
from gliclass_spark.spark.session import spark_session


def session(folder: Path) -> SparkSession:
    """Return a local session with two task slots."""
    conf = folder / "spark.yaml"
    conf.write_text(yaml.safe_dump({"spark.master": "local[2]"}))
    return spark_session(conf, app_name="benchmark")


def run(spark: SparkSession, folder: Path, run_id: str, labels: list[str], **settings: Any) -> PipelineRun:
    """Return a run over the Delta table `folder`/documents, with its tables in `folder`/lake."""
    config = {
        "name": "benchmark",
        "source": {"path": "documents", "id": "id", "text": "body"},
        "label_set": labels,
        "tables": "lake",
        **settings,
    }
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(config))
    return PipelineRun(spark, Pipeline.from_yaml(path), run_id)


def add(spark: SparkSession, folder: Path, rows: list[tuple[str, str]]) -> None:
    """Append (id, text) rows to the Delta table `folder`/documents."""
    frame = spark.createDataFrame(rows, "id string, body string").coalesce(2)
    writer = frame.write.format("delta").mode("append").option("delta.enableChangeDataFeed", "true")
    writer.save(str(folder / "documents"))
