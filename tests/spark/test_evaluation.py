"""What a model is worth does not depend on where it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from pyspark.sql import SparkSession

from gliclass_spark import Engine, LabelSet, gliclass_udf
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.evaluation.evaluate import score

KINDS = ("boat", "bread", "bird")
ASKED = LabelledSet(
    "kinds",
    KINDS,
    tuple(f"{kind} number {number} " * (1 + number % 5) for number in range(30) for kind in KINDS),
    ((0,), (1,), (2,)) * 30,
)


class OverSpark:
    """Asks the UDF about a Delta table of four partitions."""

    def __init__(self, spark: SparkSession, model: str, path: str) -> None:
        self._spark, self._model, self._path = spark, model, path

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray:
        table = self._spark.createDataFrame(list(enumerate(texts)), "id int, text string").repartition(4)
        table.write.format("delta").mode("overwrite").save(self._path)
        udf = gliclass_udf(labels, model=self._model, output="scores", precision="float32")
        rows = self._spark.read.format("delta").load(self._path).select("id", udf("text").alias("scores")).collect()
        found = {row["id"]: [row["scores"][name] for name in labels.names] for row in rows}
        return np.log(np.array([found[row] for row in range(len(texts))], dtype=np.float32))


@pytest.mark.parametrize("kind", ["joint", "label-cached"])
def test_the_figures_over_spark_are_those_of_one_process(
    spark: SparkSession, kind: str, tiny_bi_encoder: str, tiny_label_cached_model: str, tmp_path: object
) -> None:
    model = tiny_bi_encoder if kind == "joint" else tiny_label_cached_model
    here = score(Engine.from_pretrained(model, precision="float32"), ASKED, name="m")
    there = score(OverSpark(spark, model, f"{tmp_path}/table"), ASKED, name="m")
    assert replace(there, texts_per_s=here.texts_per_s) == here
    assert 0 < here.macro_f1 < 1
