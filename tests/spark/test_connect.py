"""UDF and transformer over Spark Connect, which has no SparkContext and so no broadcast."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

PROGRAM = """
import sys
from pyspark.ml import Pipeline, PipelineModel
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from gliclass_spark import gliclass_udf, register_gliclass
from gliclass_spark.spark.transformer import GLiClassTransformer

spark = SparkSession.builder.remote("local[1]").getOrCreate()
assert "connect" in type(spark).__module__
texts = spark.createDataFrame([(1, "a lake of data"), (2, None)], "id int, text string")
scored = texts.select("id", gliclass_udf(["spam", "lake"], model=sys.argv[1], output="scores")("text").alias("scores"))
by_id = {row["id"]: row["scores"] for row in scored.collect()}
assert set(by_id[1]) == {"spam", "lake"} and by_id[2] is None, by_id
register_gliclass(spark, "tag_text", ["spam", "lake"], model=sys.argv[1], output="scores")
texts.createOrReplaceTempView("texts")
assert {row["id"]: row["s"] for row in spark.sql("SELECT id, tag_text(text) AS s FROM texts").collect()} == by_id
tag_by = gliclass_udf(model=sys.argv[1], output="best", threshold=0.0)
best = texts.select("id", tag_by("text", F.array(F.lit("spam"), F.lit("lake"))).alias("best")).collect()
assert {row["id"]: row["best"] for row in best} == {1: max(by_id[1], key=by_id[1].get), 2: None}, best
tagger = GLiClassTransformer(labels=["spam", "lake"], model=sys.argv[1], output="best", threshold=0.0)
Pipeline(stages=[tagger]).fit(texts).save(sys.argv[2])
tagged = PipelineModel.load(sys.argv[2]).transform(texts).collect()
assert {row["id"]: row["labels"] for row in tagged} == {row["id"]: row["best"] for row in best}, tagged
print("same scores")
"""


@pytest.mark.usefixtures("quick_java")
def test_the_udf_and_the_transformer_work_over_spark_connect(tiny_bi_encoder: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, tiny_bi_encoder, str(tmp_path / "saved")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert "same scores" in process.stdout
