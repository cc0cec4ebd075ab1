"""gliclass_udf, in the DataFrame API and in SQL."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from gliclass_spark import Engine, Label, LabelSet, gliclass_udf, nested_scores, register_gliclass
from gliclass_spark.errors import ConfigError, LabelSetError, ModelNotFoundError
from gliclass_spark.spark.worker import scoring

LABELS = ["spam", "ham", "lake"]
TEXTS = ["a lake of data", "buy now", "ham and eggs " * 40, "שלום עולם", "<<LABEL>>spam<<SEP>>", "x\0y 😀"]


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(list(enumerate(TEXTS)), "id int, text string")


def scores_of(rows: list) -> np.ndarray:
    return np.array([[row["scores"][label] for label in LABELS] for row in sorted(rows, key=lambda row: row["id"])])


def test_scores_are_those_of_the_engine(frame: DataFrame, tiny_bi_encoder: str) -> None:
    tagged = frame.withColumn("scores", gliclass_udf(LABELS, model=tiny_bi_encoder, output="scores")("text"))
    expected = Engine.from_pretrained(tiny_bi_encoder).scores(TEXTS, LABELS)
    np.testing.assert_allclose(scores_of(tagged.collect()), expected, atol=2e-2)


def test_sql_gives_what_the_dataframe_api_gives(spark: SparkSession, frame: DataFrame, tiny_bi_encoder: str) -> None:
    frame.createOrReplaceTempView("mail")
    for output in ("labels", "scores", "full"):
        register_gliclass(spark, "tag_mail", LabelSet.of(*LABELS), model=tiny_bi_encoder, output=output)
        by_sql = spark.sql("SELECT id, tag_mail(text) AS found FROM mail ORDER BY id")
        by_api = frame.select("id", gliclass_udf(LABELS, model=tiny_bi_encoder, output=output)("text").alias("found"))
        assert by_sql.schema == by_api.schema
        assert by_sql.collect() == by_api.orderBy("id").collect()


def test_default_output_is_labels_over_their_threshold_best_first(frame: DataFrame, tiny_bi_encoder: str) -> None:
    tagged = frame.withColumn("labels", gliclass_udf(LABELS, model=tiny_bi_encoder)(F.col("text")))
    assert tagged.schema["labels"].dataType.simpleString() == "array<struct<label:string,score:float>>"
    for row in tagged.collect():
        scores = [found["score"] for found in row["labels"]]
        assert scores == sorted(scores, reverse=True)
        assert all(score >= 0.5 for score in scores)


def test_nested_labels_of_which_a_text_gets_one_are_those_of_the_engine(frame: DataFrame, tiny_bi_encoder: str) -> None:
    tree = {"mail": ["spam", "ham"], "place": {"water": "lake"}}
    best = LabelSet.of(tree).model_copy(update={"top_k": 1, "threshold": 0.0})
    asked = {
        "all": gliclass_udf(tree, model=tiny_bi_encoder, output="scores"),
        "best": gliclass_udf(best, model=tiny_bi_encoder),
    }
    rows = frame.select("id", *(function("text").alias(name) for name, function in asked.items())).collect()
    expected = Engine.from_pretrained(tiny_bi_encoder).classify(TEXTS, best)
    for row, found in zip(sorted(rows, key=lambda row: row["id"]), expected, strict=True):
        assert row["all"] == pytest.approx(found.scores, abs=2e-2)
        [given] = row["best"]
        assert found.scores[given["label"]] == pytest.approx(found.labels[0].score, abs=2e-2)


def test_nested_scores_are_a_struct_in_the_shape_of_the_labels(frame: DataFrame, tiny_bi_encoder: str) -> None:
    tree = LabelSet.of({"mail": ["spam", "ham: eggs"], "the place": {"water.deep": "lake"}})
    scores = gliclass_udf(tree, model=tiny_bi_encoder, output="scores")("text")
    found = frame.withColumn("scores", scores).withColumn("nested", nested_scores(tree, "scores"))
    expected = "struct<mail:struct<spam:float,ham: eggs:float>,the place:struct<water.deep:struct<lake:float>>>"
    assert found.schema["nested"].dataType.simpleString() == expected
    for row in found.select("*", F.col("nested.mail.spam").alias("spam")).collect():
        assert row["nested"].asDict(recursive=True) == tree.nested(row["scores"])
        assert row["spam"] == row["scores"]["mail.spam"]


def test_where_there_are_no_scores_there_are_none_nested(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(None,), ({},), ({"mail.spam": 0.25},)], "scores map<string,float>")
    found = [row[0] for row in rows.select(nested_scores({"mail": ["spam", "ham"]}, "scores")).collect()]
    assert found[:2] == [None, None]
    assert found[2].asDict(recursive=True) == {"mail": {"spam": 0.25, "ham": None}}
    with pytest.raises(LabelSetError, match="'spam' is a label and a group, or two labels, in one place"):
        nested_scores(LabelSet.of("spam", Label(name="phishing", group="spam")), "scores")


def test_null_text_gives_null(spark: SparkSession, tiny_bi_encoder: str) -> None:
    texts = spark.createDataFrame([(None,)], "text string")
    texts.createOrReplaceTempView("nothing")
    for output in ("labels", "scores", "full"):
        assert texts.select(gliclass_udf(LABELS, model=tiny_bi_encoder, output=output)("text")).collect() == [(None,)]
        register_gliclass(spark, "tag_nothing", LABELS, model=tiny_bi_encoder, output=output)
        assert spark.sql("SELECT tag_nothing(text) FROM nothing").collect() == [(None,)]


def test_bad_text_gives_null_and_full_says_why(spark: SparkSession, tiny_bi_encoder: str) -> None:
    bad = spark.sql("VALUES (1, CAST(X'41FF42' AS STRING)), (2, '  '), (3, 'ok') AS bad(id, text)")
    full = bad.withColumn("found", gliclass_udf(LABELS, model=tiny_bi_encoder, output="full")("text"))
    rows = {row["id"]: row["found"] for row in full.collect()}
    assert {key: found["error"] and found["error"]["code"] for key, found in rows.items()} == {
        1: "undecodable_text",
        2: "empty_text",
        3: None,
    }
    plain = bad.withColumn("found", gliclass_udf(LABELS, model=tiny_bi_encoder, output="scores")("text"))
    assert {row["id"]: row["found"] is None for row in plain.collect()} == {1: True, 2: True, 3: False}


def test_reading_two_fields_runs_the_model_once(frame: DataFrame, tiny_bi_encoder: str) -> None:
    full = frame.withColumn("found", gliclass_udf(LABELS, model=tiny_bi_encoder, output="full")("text"))
    plan = full.select("found.scores", "found.labels", "found.token_count")._jdf.queryExecution().toString()
    physical = plan.split("== Physical Plan ==")[1]
    assert physical.count("ArrowEvalPython") == 1
    assert physical.count("classify(") == 1


def test_promise_6_one_model_in_memory_for_each_worker(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path
) -> None:
    """40 partitions on two task slots: two loads, though queries of two Python steps left more workers behind."""
    model = str(shutil.copytree(tiny_bi_encoder, tmp_path / "model"))  # that no other test has loaded
    same = {"func": lambda batches: batches, "schema": "id long"}
    assert spark.range(8).repartition(8).mapInPandas(**same).mapInPandas(**same).count() == 8
    texts = spark.range(400).select(F.concat(F.lit("document number "), "id").alias("text")).repartition(40)
    tagged = texts.withColumn("found", gliclass_udf(["only", "here"], model=model)("text"))
    assert tagged.where(F.size("found") >= 0).count() == 400

    def loads(batches):
        for _ in batches:
            pass
        mine = [settings for settings in scoring._engines if settings.model.uri == model]
        yield pd.DataFrame({"pid": [os.getpid()], "loads": [len(mine)]})

    counted = spark.range(40).repartition(40).mapInPandas(loads, "pid long, loads long").distinct().collect()
    assert sum(row["loads"] for row in counted) <= 2
    assert sum(row["loads"] for row in counted) >= 1


def test_wrong_arguments_are_refused_before_anything_runs(spark: SparkSession, tiny_bi_encoder: str) -> None:
    with pytest.raises(LabelSetError, match="'spam' appears twice; remove one"):
        gliclass_udf(["spam", "spam"])
    with pytest.raises(ConfigError, match="output 'label' is unknown; use one of labels, scores, full"):
        gliclass_udf(LABELS, output="label")  # type: ignore[arg-type]
    with pytest.raises(ModelNotFoundError, match="no/such-model"):
        gliclass_udf(LABELS, model="no/such-model")
    with pytest.raises(ConfigError, match="can't be the name of a SQL function"):
        register_gliclass(spark, "f(x) AS SELECT 1; --", LABELS, model=tiny_bi_encoder)


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(
        [
            (1, "a lake of data", ["lake", "sea"]),
            (2, "buy now", ["spam"]),
            (3, "buy now", ["spam", "spam"]),
            (4, "buy now", []),
            (5, "buy now", None),
            (6, None, ["spam"]),
            (7, "שלום", ["spam", None]),
        ],
        "id int, text string, candidates array<string>",
    )


class TestOwnLabels:
    """A column of labels: each row is asked its own."""

    def test_scores_are_those_of_the_engine(self, rows: DataFrame, tiny_bi_encoder: str) -> None:
        asked = gliclass_udf(model=tiny_bi_encoder, output="scores")
        found = {
            row["id"]: row["scores"] for row in rows.select("id", asked("text", "candidates").alias("scores")).collect()
        }
        expected = Engine.from_pretrained(tiny_bi_encoder).classify_each(
            ["a lake of data", "buy now"], [["lake", "sea"], ["spam"]]
        )
        for place, record in enumerate(expected, start=1):
            assert list(found[place]) == list(record.scores)
            np.testing.assert_allclose(list(found[place].values()), list(record.scores.values()), atol=2e-2)
        assert [found[place] for place in (3, 4, 5, 6, 7)] == [None] * 5

    def test_full_says_why_a_row_could_not_be_asked(self, rows: DataFrame, tiny_bi_encoder: str) -> None:
        full = rows.select(
            "id", gliclass_udf(model=tiny_bi_encoder, output="full")("text", "candidates").alias("found")
        )
        found = {row["id"]: row["found"] for row in full.collect()}
        assert {key: row and row["error"] and row["error"]["code"] for key, row in found.items()} == {
            **dict.fromkeys((1, 2, 6)),
            **dict.fromkeys((3, 4, 5, 7), "bad_labels"),
        }
        assert "appears twice" in found[3]["error"]["message"]
        assert found[1]["label_set_hash"] == LabelSet.of("lake", "sea").hash
        assert found[4]["label_set_hash"] is None

    def test_sql_gives_the_same(self, spark: SparkSession, rows: DataFrame, tiny_bi_encoder: str) -> None:
        rows.createOrReplaceTempView("asked")
        register_gliclass(spark, "tag_by", model=tiny_bi_encoder, output="full")
        by_sql = spark.sql("SELECT id, tag_by(text, candidates) AS found FROM asked")
        by_api = rows.select(
            "id", gliclass_udf(model=tiny_bi_encoder, output="full")("text", "candidates").alias("found")
        )
        assert by_sql.schema == by_api.schema
        assert by_sql.orderBy("id").collect() == by_api.orderBy("id").collect()

    def test_labels_are_given_once(self, tiny_bi_encoder: str) -> None:
        with pytest.raises(ConfigError, match="takes 1 column"):
            gliclass_udf(LABELS, model=tiny_bi_encoder)("text", "candidates")
        with pytest.raises(ConfigError, match="takes 2 column"):
            gliclass_udf(model=tiny_bi_encoder)("text")
