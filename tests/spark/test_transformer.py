"""The Spark ML transformer in a pipeline: fitted, saved and loaded by Spark's own reader and writer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import StringIndexer
from pyspark.sql import DataFrame, SparkSession

from gliclass_spark import LabelSet, gliclass_udf
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import CheckpointError
from gliclass_spark.spark.transformer import GLiClassTransformer

LABELS = LabelSet.of("spam", "ham", "lake", name="mail", multi_label=False)


@pytest.fixture(scope="module")
def texts(spark: SparkSession) -> DataFrame:
    rows = [(1, "a lake of data"), (2, "buy now"), (3, "ham and eggs"), (4, None)]
    return spark.createDataFrame(rows, "id int, `the text` string")


def test_a_pipeline_is_fitted_saved_and_loaded(texts: DataFrame, tiny_bi_encoder: str, tmp_path: Path) -> None:
    tagger = GLiClassTransformer(
        inputCol="the text",
        outputCol="topic",
        labels=LABELS,
        model=tiny_bi_encoder,
        output="best",
        threshold=0.0,
        precision="float32",
    )
    indexer = StringIndexer(inputCol="topic", outputCol="index", handleInvalid="keep")
    model = Pipeline(stages=[tagger, indexer]).fit(texts)
    settings = {"model": tiny_bi_encoder, "precision": "float32"}
    expected = gliclass_udf(LABELS, output="best", threshold=0.0, **settings)  # type: ignore[arg-type]
    by_function = texts.withColumn("topic", expected("the text"))

    model.write().overwrite().save(str(tmp_path / "saved"))
    loaded = PipelineModel.load(str(tmp_path / "saved"))
    transformed = loaded.transform(texts)
    assert transformed.schema[:3] == tagger.transformSchema(texts.schema)
    rows = {row["id"]: row for row in transformed.collect()}
    assert {id_: row["topic"] for id_, row in rows.items()} == {
        row["id"]: row["topic"] for row in by_function.collect()
    }
    assert rows[4]["topic"] is None
    assert all(rows[id_]["topic"] in LABELS.names for id_ in (1, 2, 3))
    assert len({row["index"] for row in rows.values()}) == len({row["topic"] for row in rows.values()})


def test_a_saved_transformer_has_the_label_set_and_the_digest(
    spark: SparkSession, texts: DataFrame, tiny_bi_encoder: str, other_tiny_model: str, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_bi_encoder, tmp_path / "model")
    tagger = GLiClassTransformer(inputCol="the text", labels=LABELS, model=str(model), topK=1)
    tagger.save(str(tmp_path / "saved"))
    assert tagger.getModelDigest() is None
    loaded = GLiClassTransformer.load(str(tmp_path / "saved"))
    assert loaded.uid == tagger.uid
    assert (loaded.getLabels(), loaded.getModel(), loaded.getTopK()) == (LABELS, str(model), 1)
    assert loaded.getModelDigest() == resolve_model(tiny_bi_encoder).digest
    [metadata] = spark.read.text(str(tmp_path / "saved" / "metadata")).collect()
    assert json.loads(metadata[0])["class"] == "gliclass_spark.spark.transformer.GLiClassTransformer"

    shutil.rmtree(model)
    shutil.copytree(other_tiny_model, model)
    with pytest.raises(CheckpointError, match="expected " + str(loaded.getModelDigest())[:12]):
        loaded.transform(texts)
    assert loaded.setModel(str(model)).transform(texts).columns == ["id", "the text", "labels"]


def test_each_row_has_labels_of_its_own(texts: DataFrame, tiny_bi_encoder: str, tmp_path: Path) -> None:
    own = texts.selectExpr("*", "if(id = 2, array('spam', 'ham'), array('lake')) AS candidates")
    tagger = GLiClassTransformer(
        inputCol="the text", labelsCol="Candidates", model=tiny_bi_encoder, output="best", threshold=0.0
    )
    tagger.save(str(tmp_path / "saved"))
    loaded = GLiClassTransformer.load(str(tmp_path / "saved"))
    assert loaded.getLabelsCol() == "Candidates"
    best = {row["id"]: row["labels"] for row in loaded.transform(own).collect()}
    assert best == {1: "lake", 2: best[2], 3: "lake", 4: None}
    assert best[2] in ("spam", "ham")
    with pytest.raises(ValueError, match="labels and labelsCol are both set"):
        loaded.copy().setLabels(LABELS).transform(own)
    with pytest.raises(ValueError, match="labelsCol 'id' must be an array of strings, found int; cast it, or call set"):
        loaded.setLabelsCol("id").transform(own)


def test_labels_must_be_set(texts: DataFrame) -> None:
    with pytest.raises(ValueError, match="labels are not set; call setLabels"):
        GLiClassTransformer(inputCol="the text").transform(texts)
