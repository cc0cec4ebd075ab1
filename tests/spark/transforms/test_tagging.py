"""Tagging over Spark: the engine's labels and scores, and one load of the model per worker."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from gliclass_spark import Engine, LabelSet, gliclass_udf
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.spark.session import task_slots, threads_per_task
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.transforms.tagging import tag
from gliclass_spark.spark.worker import scoring
from gliclass_spark.spark.worker.usage_meter import Meter
from gliclass_spark.spark.worker.worker_settings import WorkerSettings

LABELS = LabelSet.of("spam", "ham", "lake")


def documents(spark: SparkSession, count: int) -> DataFrame:
    texts = spark.range(count).select(F.col("id").cast("string").alias("doc_id"), F.concat(F.lit("document "), "id"))
    return with_content(texts.toDF("doc_id", "body"), "body")


@pytest.mark.parametrize("fixture", ["tiny_model", "tiny_bi_encoder", "tiny_label_cached_model"])
def test_tags_are_the_engines_labels_and_scores(
    spark: SparkSession, fixture: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(fixture)
    texts = [f"document {number}" for number in range(40)]
    engine = Engine.from_pretrained(model, device="cpu", precision="float32")
    # Half of all scores reach the threshold.
    label_set = LABELS.model_copy(update={"threshold": float(np.median(engine.scores(texts, LABELS)))})
    expected = engine.classify(texts, label_set)
    assert sum(len(classification.labels) for classification in expected) == 60

    settings = WorkerSettings(resolve_model(model), "cpu", "float32", threads_per_task(spark))
    rows = {row["doc_id"]: row for row in tag(documents(spark, 40), 40, label_set, settings, "run-1").collect()}
    assert len(rows) == len(texts)
    for number, classification in enumerate(expected):
        row = rows[str(number)]
        assert row["labels"] == [scored.label for scored in classification.labels]
        assert row["scores"] == pytest.approx(classification.scores, abs=1e-5)
        assert (row["token_count"], row["error"]) == (classification.token_count, None)


def test_promise_6_each_worker_loads_the_model_once_and_reports_the_load(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path
) -> None:
    """A query with two Python steps starts two workers per slot; the additional ones must not load the model later."""
    same = {"func": lambda batches: batches, "schema": "id long"}
    assert spark.range(8).repartition(8).mapInPandas(**same).mapInPandas(**same).count() == 8

    model = str(shutil.copytree(tiny_bi_encoder, tmp_path / "model"))  # which no other test has loaded
    settings = WorkerSettings(resolve_model(model), None, "auto", threads_per_task(spark))
    meter = Meter(spark.sparkContext)
    tagged = tag(documents(spark, 400), 400, LABELS, settings, "run-1", meter)
    classify = gliclass_udf(["another", "label set"], model=model)
    for _ in range(3):
        assert tagged.where(F.size("scores") == 3).count() == 400
        texts = spark.range(400).repartition(20).select(F.concat(F.lit("text "), "id").alias("text"))
        assert texts.where(F.size(classify("text")) >= 0).count() == 400

    assert meter.total.usage.texts == 3 * 400
    # Three queries of 8 tasks each: a worker that loaded the model for each task would report 24 loads.
    assert 1 <= meter.total.loads <= task_slots(spark) == 2

    def engines(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for _ in batches:
            pass
        loaded = [settings for settings in scoring._engines if settings.model.uri == model]
        yield pd.DataFrame({"pid": [os.getpid()], "engines": [len(loaded)]})

    workers = spark.range(40).repartition(40).mapInPandas(engines, "pid long, engines long").distinct().collect()
    assert {row["engines"] for row in workers} == {1}
    assert len(workers) <= 2
