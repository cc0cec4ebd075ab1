"""UDFs that classify a text column, in the DataFrame API and in SQL."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import StringType
from pyspark.testing import assertDataFrameEqual

from gliclass_spark import Engine, Label, LabelSet, gliclass_udf, nested_scores, register_gliclass
from gliclass_spark.errors import ConfigError, LabelSetError, ModelNotFoundError
from gliclass_spark.labels import Example
from gliclass_spark.spark.udf import Output

LABELS = ["spam", "ham", "lake"]
TEXTS = ["a lake of data", "buy now", "ham and eggs " * 40, "שלום עולם", "<<LABEL>>spam<<SEP>>", "x\0y 😀"]


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(list(enumerate(TEXTS)), "id int, text string")


def assert_same_scores(rows: DataFrame, expected: DataFrame) -> None:
    """Two queries may batch their rows differently: scores are equal within 1e-5 (promise 1), all else exactly."""
    assertDataFrameEqual(rows, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fixture", ["tiny_model", "tiny_bi_encoder", "tiny_label_cached_model"])
def test_labels_and_scores_are_those_of_the_engine(
    frame: DataFrame, fixture: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(fixture)
    engine = Engine.from_pretrained(model, device="cpu", precision="float32")
    # Half of all scores reach the threshold.
    threshold = float(np.median(engine.scores(TEXTS, LABELS)))
    label_set = LabelSet.of(*LABELS).model_copy(update={"threshold": threshold})
    expected = engine.classify(TEXTS, label_set)
    assert sum(len(classification.labels) for classification in expected) == len(TEXTS) * len(LABELS) / 2

    def results(output: Output) -> list[Any]:
        classify = gliclass_udf(label_set, model=model, output=output, device="cpu", precision="float32")
        return [row["result"] for row in frame.select("id", classify("text").alias("result")).orderBy("id").collect()]

    for labels, scores, full, classification in zip(
        results("labels"), results("scores"), results("full"), expected, strict=True
    ):
        names = [scored.label for scored in classification.labels]
        assert [scored["label"] for scored in labels] == full["labels"] == names
        assert [scored["score"] for scored in labels] == pytest.approx(
            [scored.score for scored in classification.labels], abs=1e-5
        )
        assert scores == pytest.approx(classification.scores, abs=1e-5)
        assert full["scores"] == pytest.approx(classification.scores, abs=1e-5)
        assert full["token_count"] == classification.token_count


def test_examples_of_the_label_set_are_those_of_the_engine(frame: DataFrame, tiny_bi_encoder: str) -> None:
    wording = {"spam": "buy now", "ham": "ham and eggs", "lake": "a lake of data"}
    examples = [
        Example(text=f"{text} {number}", labels=(label,)) for label, text in wording.items() for number in range(8)
    ]
    label_set = LabelSet.of(*LABELS).replace(examples=examples)
    engine = Engine.from_pretrained(tiny_bi_encoder, device="cpu", precision="float32")
    expected = engine.scores(TEXTS, label_set)
    assert np.abs(expected - engine.scores(TEXTS, LABELS)).max() > 0.01
    classify = gliclass_udf(label_set, model=tiny_bi_encoder, output="scores", device="cpu", precision="float32")
    rows = frame.select("id", classify("text").alias("scores")).orderBy("id").collect()
    scores = [[row["scores"][label] for label in LABELS] for row in rows]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


def test_the_default_output_is_labels(frame: DataFrame, tiny_bi_encoder: str) -> None:
    default = frame.select(
        "id", gliclass_udf(LABELS, model=tiny_bi_encoder, precision="float32")(F.col("text")).alias("labels")
    )
    explicit = gliclass_udf(LABELS, model=tiny_bi_encoder, output="labels", precision="float32")
    labels = frame.select("id", explicit("text").alias("labels"))
    assert default.schema["labels"].dataType.simpleString() == "array<struct<label:string,score:float>>"
    assert default.schema == labels.schema
    assert_same_scores(default, labels)


def test_sql_and_the_dataframe_api_return_the_same(spark: SparkSession, frame: DataFrame, tiny_bi_encoder: str) -> None:
    frame.createOrReplaceTempView("mail")
    for output in ("labels", "scores", "full"):
        settings: dict[str, Any] = {"model": tiny_bi_encoder, "output": output, "precision": "float32"}
        register_gliclass(spark, "tag_mail", LabelSet.of(*LABELS), **settings)
        by_sql = spark.sql("SELECT id, tag_mail(text) AS result FROM mail ORDER BY id")
        by_api = frame.select("id", gliclass_udf(LABELS, **settings)("text").alias("result"))
        assert by_sql.schema == by_api.schema
        assert_same_scores(by_sql, by_api)


def test_nested_labels_with_top_k_are_those_of_the_engine(frame: DataFrame, tiny_bi_encoder: str) -> None:
    tree = {"mail": ["spam", "ham"], "place": {"water": "lake"}}
    best = LabelSet.of(tree).model_copy(update={"top_k": 1, "threshold": 0.0})
    functions = {
        "scores": gliclass_udf(tree, model=tiny_bi_encoder, output="scores", precision="float32"),
        "best": gliclass_udf(best, model=tiny_bi_encoder, precision="float32"),
    }
    rows = frame.select("id", *(function("text").alias(name) for name, function in functions.items()))
    expected = Engine.from_pretrained(tiny_bi_encoder, precision="float32").classify(TEXTS, best)
    for row, classification in zip(rows.orderBy("id").collect(), expected, strict=True):
        assert row["scores"] == pytest.approx(classification.scores, abs=1e-5)
        assert [scored["label"] for scored in row["best"]] == [scored.label for scored in classification.labels]
        assert row["best"][0]["score"] == pytest.approx(classification.labels[0].score, abs=1e-5)


def test_nested_scores_are_a_struct_in_the_shape_of_the_label_tree(frame: DataFrame, tiny_bi_encoder: str) -> None:
    tree = LabelSet.of({"mail": ["spam", "ham: eggs"], "the place": {"water.deep": "lake"}})
    scores = gliclass_udf(tree, model=tiny_bi_encoder, output="scores")("text")
    rows = frame.withColumn("scores", scores).withColumn("nested", nested_scores(tree, "scores"))
    expected = "struct<mail:struct<spam:float,ham: eggs:float>,the place:struct<water.deep:struct<lake:float>>>"
    assert rows.schema["nested"].dataType.simpleString() == expected
    for row in rows.select("*", F.col("nested.mail.spam").alias("spam")).collect():
        assert row["nested"].asDict(recursive=True) == tree.nested(row["scores"])
        assert row["spam"] == row["scores"]["mail.spam"]


def test_nested_scores_are_null_without_scores(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(None,), ({},), ({"mail.spam": 0.25},)], "scores map<string,float>")
    structs = [row[0] for row in rows.select(nested_scores({"mail": ["spam", "ham"]}, "scores")).collect()]
    assert structs[:2] == [None, None]
    assert structs[2].asDict(recursive=True) == {"mail": {"spam": 0.25, "ham": None}}
    with pytest.raises(LabelSetError, match="'spam' is a label and a group, or two labels, at one position"):
        nested_scores(LabelSet.of("spam", Label(name="phishing", group="spam")), "scores")


def test_null_text_gives_null(spark: SparkSession, tiny_bi_encoder: str) -> None:
    texts = spark.createDataFrame([(None,)], "text string")
    texts.createOrReplaceTempView("nulls")
    for output in ("labels", "scores", "full"):
        assert texts.select(gliclass_udf(LABELS, model=tiny_bi_encoder, output=output)("text")).collect() == [(None,)]
        register_gliclass(spark, "tag_nulls", LABELS, model=tiny_bi_encoder, output=output)
        assert spark.sql("SELECT tag_nulls(text) FROM nulls").collect() == [(None,)]


def test_invalid_text_gives_null_and_full_has_the_error(spark: SparkSession, tiny_bi_encoder: str) -> None:
    bad = spark.sql("VALUES (1, CAST(X'41FF42' AS STRING)), (2, '  '), (3, 'ok') AS bad(id, text)")
    full = bad.withColumn("result", gliclass_udf(LABELS, model=tiny_bi_encoder, output="full")("text"))
    rows = {row["id"]: row["result"] for row in full.collect()}
    assert {id_: result["error"] and result["error"]["code"] for id_, result in rows.items()} == {
        1: "undecodable_text",
        2: "empty_text",
        3: None,
    }
    scores = bad.withColumn("result", gliclass_udf(LABELS, model=tiny_bi_encoder, output="scores")("text"))
    assert {row["id"]: row["result"] is None for row in scores.collect()} == {1: True, 2: True, 3: False}


def test_a_result_without_a_name_is_called_as_the_function_was(frame: DataFrame, tiny_bi_encoder: str) -> None:
    best = gliclass_udf(LABELS, model=tiny_bi_encoder, output="best")
    by_row = gliclass_udf(model=tiny_bi_encoder)
    named = frame.select(best("text"), best(frame["text"]), best(F.upper("text")), by_row("text", F.array("text")))
    assert named.columns == ["gliclass(text)", "gliclass(text)", "gliclass(upper(text))", "gliclass(text, array(text))"]


def test_reading_two_fields_runs_the_model_once(frame: DataFrame, tiny_bi_encoder: str) -> None:
    full = frame.withColumn("result", gliclass_udf(LABELS, model=tiny_bi_encoder, output="full")("text"))
    plan = full.select("result.scores", "result.labels", "result.token_count")._jdf.queryExecution().toString()
    physical = plan.split("== Physical Plan ==")[1]
    assert physical.count("ArrowEvalPython") == 1
    assert physical.count("classify(") == 1


def test_options_of_the_function_stand_in_place_of_the_label_sets(
    spark: SparkSession, frame: DataFrame, tiny_bi_encoder: str
) -> None:
    settings: dict[str, Any] = {"model": tiny_bi_encoder, "precision": "float32", "multi_label": False}
    label_set = LabelSet.of(*LABELS, multi_label=False)
    expected = Engine.from_pretrained(tiny_bi_encoder, precision="float32").scores(TEXTS, label_set)
    # The best score of half of the texts reaches the threshold.
    threshold = float(np.median(expected.max(axis=1)))
    best = [LABELS[scores.argmax()] if scores.max() >= threshold else None for scores in expected]
    assert None in best
    frame.createOrReplaceTempView("mail")
    register_gliclass(spark, "ai_classify", **settings, threshold=threshold, output="best")
    functions = {
        "best": gliclass_udf(LABELS, **settings, threshold=threshold, output="best")("text"),
        "one": gliclass_udf(LABELS, **settings, threshold=0.0, top_k=1)("text"),
        "in_sql": F.expr(f"ai_classify(text, array({', '.join(map(repr, LABELS))}))"),
    }
    rows = frame.select("id", *(function.alias(name) for name, function in functions.items()))
    assert rows.schema["best"].dataType == rows.schema["in_sql"].dataType == StringType()
    for row, label, scores in zip(rows.orderBy("id").collect(), best, expected, strict=True):
        assert row["best"] == row["in_sql"] == label
        assert [scored["label"] for scored in row["one"]] == [LABELS[scores.argmax()]]
        assert row["one"][0]["score"] == pytest.approx(scores.max(), abs=1e-5)


def test_invalid_arguments_are_refused_before_spark_runs(spark: SparkSession, tiny_bi_encoder: str) -> None:
    with pytest.raises(ModelNotFoundError, match="no/such-model"):
        gliclass_udf(LABELS, model="no/such-model")
    with pytest.raises(ConfigError, match="can't be the name of a SQL function"):
        register_gliclass(spark, "f(x) AS SELECT 1; --", LABELS, model=tiny_bi_encoder)


class TestWhereSparkTakesTheFunction:
    """Statements that Spark refuses with a function of Python, and the way that works: name its result first."""

    @pytest.fixture(autouse=True)
    def _mail(self, spark: SparkSession, tiny_bi_encoder: str) -> None:
        """The view `mail`, and functions whose labels all, or none, reach their threshold."""
        mail = [("a", "invoice 42 is attached"), ("b", "where is my parcel?"), ("c", None)]
        spark.createDataFrame(mail, "id string, text string").createOrReplaceTempView("mail")
        for name, threshold in (("label_mail", 0.0), ("label_none", 1.0)):
            label_set = LabelSet.of(*LABELS).model_copy(update={"threshold": threshold})
            register_gliclass(spark, name, label_set, model=tiny_bi_encoder, precision="float32")
        register_gliclass(spark, "score_mail", LABELS, model=tiny_bi_encoder, output="scores", precision="float32")

    @pytest.fixture
    def best(self, tiny_bi_encoder: str) -> dict[str, str | None]:
        """The best label of each mail."""
        texts = ["invoice 42 is attached", "where is my parcel?"]
        scores = Engine.from_pretrained(tiny_bi_encoder, precision="float32").scores(texts, LABELS)
        return {"a": LABELS[scores[0].argmax()], "b": LABELS[scores[1].argmax()], "c": None}

    def test_a_table_is_labelled_in_place_by_a_merge(self, spark: SparkSession, best: dict[str, str | None]) -> None:
        spark.sql("CREATE TABLE stored_mail USING delta AS SELECT *, CAST(NULL AS STRING) AS label FROM mail")
        try:
            with pytest.raises(AnalysisException, match="UNSUPPORTED_SQL_UDF_USAGE"):
                spark.sql("UPDATE stored_mail SET label = get(label_mail(text), 0).label")
            spark.sql(
                "MERGE INTO stored_mail AS t "
                "USING (SELECT id, get(label_mail(text), 0).label AS label FROM stored_mail) AS s ON t.id = s.id "
                "WHEN MATCHED THEN UPDATE SET label = s.label"
            )
            assert {row["id"]: row["label"] for row in spark.table("stored_mail").collect()} == best
        finally:
            spark.sql("DROP TABLE stored_mail")

    def test_an_aggregate_takes_a_named_result(self, spark: SparkSession, tiny_bi_encoder: str) -> None:
        texts = ["invoice 42 is attached", "where is my parcel?"]
        scores = Engine.from_pretrained(tiny_bi_encoder, precision="float32").scores(texts, LABELS)
        with pytest.raises(AnalysisException, match="AGGREGATE_FUNCTION_WITH_NONDETERMINISTIC_EXPRESSION"):
            spark.sql("SELECT avg(score_mail(text)['spam']) FROM mail")
        [row] = spark.sql("SELECT avg(s['spam']) AS a FROM (SELECT score_mail(text) AS s FROM mail)").collect()
        assert row["a"] == pytest.approx(float(scores[:, LABELS.index("spam")].mean()), abs=1e-5)

    def test_a_join_takes_a_named_result(self, spark: SparkSession, best: dict[str, str | None]) -> None:
        spark.createDataFrame(
            [(name, name.upper()) for name in LABELS], "label string, team string"
        ).createOrReplaceTempView("teams")
        with pytest.raises(AnalysisException, match="INVALID_NON_DETERMINISTIC_EXPRESSIONS"):
            spark.sql("SELECT id, team FROM mail JOIN teams ON get(label_mail(text), 0).label = teams.label")
        joined = spark.sql(
            "WITH labelled AS (SELECT id, get(label_mail(text), 0).label AS label FROM mail) "
            "SELECT id, team FROM labelled JOIN teams USING (label)"
        )
        teams = {row["id"]: row["team"] for row in joined.collect()}
        assert teams == {id_: label.upper() for id_, label in best.items() if label is not None}

    def test_a_row_for_each_label(self, spark: SparkSession, tiny_bi_encoder: str) -> None:
        mail = spark.table("mail")
        label_mail = gliclass_udf(LABELS, model=tiny_bi_encoder, precision="float32", threshold=0.0)
        rows = mail.select("id", F.explode(label_mail("text")).alias("label")).select("id", "label.*")
        assert sorted(rows.groupBy("id").count().collect()) == [("a", len(LABELS)), ("b", len(LABELS))]
        with pytest.raises(AnalysisException, match="UNSUPPORTED_SQL_UDF_USAGE"):
            spark.sql("SELECT id, explode(label_mail(text)) FROM mail")
        by_sql = spark.sql(
            "WITH labelled AS (SELECT id, label_mail(text) AS labels FROM mail) "
            "SELECT id, label, score FROM labelled, LATERAL inline(labels)"
        )
        assert_same_scores(by_sql, rows)

    def test_an_order_and_a_deletion_take_a_named_result(self, spark: SparkSession) -> None:
        for refused in (
            "SELECT id FROM mail ORDER BY size(label_mail(text))",
            "DELETE FROM mail WHERE label_mail(text)",
        ):
            with pytest.raises(AnalysisException, match="UNSUPPORTED_SQL_UDF_USAGE"):
                spark.sql(refused)
        by_size = "SELECT id, size(label_mail(text)) AS labels FROM mail ORDER BY labels DESC NULLS LAST, id"
        assert [row["id"] for row in spark.sql(by_size).collect()] == ["a", "b", "c"]

    def test_a_group_and_a_condition_take_the_function(self, spark: SparkSession) -> None:
        groups = "SELECT size(label_mail(text)) AS labels, count(*) AS mails FROM mail GROUP BY size(label_mail(text))"
        assert sorted(map(tuple, spark.sql(groups).collect()), key=str) == [(3, 2), (None, 1)]
        assert sorted(spark.sql("SELECT id FROM mail WHERE label_mail(text) IS NOT NULL").collect()) == [("a",), ("b",)]

    def test_the_first_label_of_a_text_without_labels_is_null_by_get(self, spark: SparkSession) -> None:
        rows = spark.sql("SELECT get(label_none(text), 0).label AS label FROM mail").collect()
        assert [row["label"] for row in rows] == [None, None, None]


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


class TestLabelColumn:
    """A column with the labels of each row."""

    def test_scores_are_those_of_the_engine(self, rows: DataFrame, tiny_bi_encoder: str) -> None:
        classify = gliclass_udf(model=tiny_bi_encoder, output="scores", precision="float32")
        scored = rows.select("id", classify("text", "candidates").alias("scores")).collect()
        scores = {row["id"]: row["scores"] for row in scored}
        expected = Engine.from_pretrained(tiny_bi_encoder, precision="float32").classify_each(
            ["a lake of data", "buy now"], [["lake", "sea"], ["spam"]]
        )
        for id_, classification in enumerate(expected, start=1):
            assert scores[id_] == pytest.approx(classification.scores, abs=1e-5)
        assert [scores[id_] for id_ in (3, 4, 5, 6, 7)] == [None] * 5

    def test_a_text_in_place_of_an_array_is_refused(self, rows: DataFrame, tiny_bi_encoder: str) -> None:
        with pytest.raises(AnalysisException, match="DATATYPE_MISMATCH"):
            rows.select(gliclass_udf(model=tiny_bi_encoder)("text", F.lit("spam")))

    def test_full_has_the_error_of_a_row_with_invalid_labels(self, rows: DataFrame, tiny_bi_encoder: str) -> None:
        classify = gliclass_udf(model=tiny_bi_encoder, output="full")
        full = rows.select("id", classify("text", "candidates").alias("result"))
        results = {row["id"]: row["result"] for row in full.collect()}
        assert {id_: row and row["error"] and row["error"]["code"] for id_, row in results.items()} == {
            **dict.fromkeys((1, 2, 6)),
            **dict.fromkeys((3, 4, 5, 7), "bad_labels"),
        }
        assert "appears twice" in results[3]["error"]["message"]
        assert results[1]["label_set_hash"] == LabelSet.of("lake", "sea").hash
        assert results[4]["label_set_hash"] is None

    def test_sql_returns_the_same(self, spark: SparkSession, rows: DataFrame, tiny_bi_encoder: str) -> None:
        rows.createOrReplaceTempView("labelled_mail")
        register_gliclass(spark, "tag_by", model=tiny_bi_encoder, output="full", precision="float32")
        by_sql = spark.sql("SELECT id, tag_by(text, candidates) AS result FROM labelled_mail")
        classify = gliclass_udf(model=tiny_bi_encoder, output="full", precision="float32")
        by_api = rows.select("id", classify("text", "candidates").alias("result"))
        assert by_sql.schema == by_api.schema
        assert_same_scores(by_sql, by_api)

    def test_labels_are_either_an_argument_or_a_column(self, tiny_bi_encoder: str) -> None:
        with pytest.raises(ConfigError, match=r"takes 1 column\(s\), text, not 2; pass labels either to gliclass_udf"):
            gliclass_udf(LABELS, model=tiny_bi_encoder)("text", "candidates")
        with pytest.raises(ConfigError, match=r"takes 2 column\(s\), text and labels, not 1"):
            gliclass_udf(model=tiny_bi_encoder)("text")
