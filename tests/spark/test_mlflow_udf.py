"""A logged model as MLflow's Spark UDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
from docs_blocks import DOCS, blocks
from pyspark.sql import SparkSession

import gliclass_spark.mlflow
from gliclass_spark import Engine


def test_a_saved_model_is_a_spark_udf(spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path) -> None:
    labels, texts = ["spam", "lake"], ["a lake of data", None, "buy this boat"]
    gliclass_spark.mlflow.save_model(tiny_bi_encoder, tmp_path / "model", labels)
    [code] = [block.text for block in blocks(DOCS / "models.md") if "mlflow.pyfunc.spark_udf" in block.text]
    documents = spark.createDataFrame([(number, text) for number, text in enumerate(texts)], "id long, text string")
    names = {"mlflow": mlflow, "spark": spark, "documents": documents}
    exec(code.replace("models:/mail/1", str(tmp_path / "model")), names)  # noqa: S102 - our own documentation
    classify: Any = names["classify"]
    rows = documents.select("id", classify("text").alias("tag")).orderBy("id").select("id", "tag.*").collect()
    expected = Engine.from_pretrained(tiny_bi_encoder).classify(texts, labels)
    for row, one in zip(rows, expected, strict=True):
        assert list(row["labels"]) == [label.label for label in one.labels]
        assert {name: round(score, 5) for name, score in row["scores"].items()} == {
            name: round(score, 5) for name, score in one.scores.items()
        }
        assert row["error"] == (one.error.message if one.error else "")
