"""Evaluation over Spark gives the figures of evaluation in one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from gliclass_spark import Engine, LabelSet, gliclass_udf
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.evaluation.evaluate import score

KINDS = ("boat", "bread", "bird")
LABELLED = LabelledSet(
    "kinds",
    KINDS,
    tuple(f"{kind} number {number} " * (1 + number % 5) for number in range(30) for kind in KINDS),
    ((0,), (1,), (2,)) * 30,
)


class SparkClassifier:
    """Classifies with the UDF, over a Delta table of four partitions."""

    def __init__(self, spark: SparkSession, model: str, path: str) -> None:
        self._spark, self._model, self._path = spark, model, path

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray:
        table = self._spark.createDataFrame(list(enumerate(texts)), "id int, text string").repartition(4)
        table.write.format("delta").mode("overwrite").save(self._path)
        udf = gliclass_udf(labels, model=self._model, output="scores", precision="float32")
        rows = self._spark.read.format("delta").load(self._path).select("id", udf("text").alias("scores")).collect()
        scores = {row["id"]: [row["scores"][name] for name in labels.names] for row in rows}
        return np.log(np.array([scores[row] for row in range(len(texts))], dtype=np.float32))


@pytest.mark.parametrize(
    "fixture",
    ["tiny_model", "tiny_bi_encoder", "tiny_label_cached_model"],
    ids=["uni-encoder", "bi-encoder", "label-cached"],
)
def test_the_figures_over_spark_are_those_of_one_process(
    spark: SparkSession, fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = request.getfixturevalue(fixture)
    local = score(Engine.from_pretrained(model, precision="float32"), LABELLED, name="m")
    over_spark = score(SparkClassifier(spark, model, str(tmp_path / "table")), LABELLED, name="m")
    assert replace(over_spark, texts_per_s=local.texts_per_s) == local
    assert 0 < local.macro_f1 < 1
