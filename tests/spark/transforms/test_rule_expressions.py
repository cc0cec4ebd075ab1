"""Rules under Spark: what only its analysis shows, as a time that a constant expression names."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from stored_tables import stored_rows

from gliclass_spark.config.pipeline import Pipeline, Source
from gliclass_spark.config.rule_sql import CLOCK
from gliclass_spark.config.rules import RejectRule, Route, Rules
from gliclass_spark.errors import RulesError, TableError
from gliclass_spark.spark.jobs import STEPS, PipelineRun
from gliclass_spark.spark.source import Documents
from gliclass_spark.spark.transforms import filtering, routing
from gliclass_spark.spark.transforms.rule_expressions import check_analysis, lenient_sql

DOCUMENTS = (
    "doc_id string, title string, published date, at timestamp, at_ntz timestamp_ntz, scores map<string,float>, "
    "labels array<string>, token_count int, meta struct<author:string>"
)
# Texts that the parser of rules can't know to be times: Spark makes them such.
BY_THE_CLOCK = [
    "published = 'today'",
    "at <> 'now'",
    "at_ntz = 'Tomorrow UTC'",
    "published >= lower('TODAY')",
    "published = cast(concat('to', 'day') as date)",
    "at < concat('n', 'ow')",
    "element_at(array('now'), 1) > at",
    "date_format(lower('NOW'), 'y') = '2026'",
    "date_add(lower('TODAY'), -7) < published",
    "case when token_count > 3 then published = 'yesterday' end",
    "exists(labels, l -> published = 'today')",
]
BY_THE_DOCUMENT = [
    "title = 'today'",
    "title in ('now', 'today') or array_contains(labels, 'today')",
    "published > '2026-01-31' and at <= '2026-01-31 12:00:00'",
    "datediff(at, published) < 7",
    "cast(title as date) > published or to_timestamp(title) = at",
    "get_json_object(title, '$.a') = 'x' or get_json_object(meta.author, '$[0]') is null",
    "scores['spam'] > 0.5 and labels[0] = 'spam' and meta.author is null",
]


def check(spark: SparkSession, when: str) -> None:
    rules = Rules(reject=(RejectRule(reason="r", when=when),))
    with lenient_sql(spark):
        # The documents' own plan may read the clock: only the rule is looked at.
        documents = spark.createDataFrame([], DOCUMENTS).withColumn("read_at", F.current_timestamp())
        check_analysis(documents.where(F.rand() < 1), rules, "pipeline 'mail'")


def test_a_time_by_its_name_is_refused_in_whatever_expression_it_is(spark: SparkSession) -> None:
    for when in BY_THE_CLOCK:
        with pytest.raises(RulesError) as refused:
            check(spark, when)
        assert str(refused.value) == f"pipeline 'mail': reject rule 'r': {when!r} {CLOCK}"


def test_conditions_that_depend_on_the_document_alone_are_accepted(spark: SparkSession) -> None:
    for when in BY_THE_DOCUMENT:
        check(spark, when)


def test_a_time_by_its_name_in_the_condition_of_a_source_is_refused(spark: SparkSession) -> None:
    spark.createDataFrame([], DOCUMENTS).createOrReplaceTempView("dated")
    where = "at < concat('n', 'ow')"
    source = Source.model_validate({"table": "dated", "id": "doc_id", "text": "title", "where": where, "columns": []})
    with pytest.raises(TableError) as refused:
        Documents(spark, source).read()
    assert str(refused.value) == f"table dated: source.where \"at < concat('n', 'ow')\" {CLOCK}"


def test_the_date_of_the_run_is_a_column_of_rules_and_of_no_result(spark: SparkSession) -> None:
    rules = Rules(
        reject=(RejectRule(reason="old", when="datediff(run_date, published) > 7"),),
        routes=(Route(route="today", when="Run_Date = published"),),
    )
    assert rules.uses_run_date
    values = "('a', date'2026-01-31'), ('b', date'2026-01-24'), ('c', date'2026-01-23')"
    rows = spark.sql(f"select * from values {values} as t(id, published)")  # noqa: S608
    rows = rows.withColumn("error", F.lit(None).cast("struct<code:string>"))
    day = datetime.date(2026, 1, 31)
    with lenient_sql(spark):
        check_analysis(rows, rules, "pipeline 'mail'", day)
        decided = filtering.decide(rows, rules, "run", day)
        routed = routing.route(rows, rules, "run", day)
    assert decided.columns == [*rows.columns, "rules_hash", "run_id", "reason"]
    assert {row["id"]: row["reason"] for row in decided.collect()} == {"a": None, "b": None, "c": "old"}
    assert {row["id"]: row[routing.ROUTES] for row in routed.collect()} == {
        "a": ["today"],
        "b": ["unrouted"],
        "c": ["unrouted"],
    }
    assert set(routed.columns) == {*rows.columns, routing.ROUTES, "run_id"}
    own = rows.withColumn("run_date", F.lit(datetime.date(2020, 1, 1)))
    with lenient_sql(spark):
        decided = filtering.decide(own, rules, "run", day)
    assert [row["run_date"] for row in decided.where("reason is null").collect()] == [datetime.date(2020, 1, 1)] * 3


@pytest.mark.long
def test_a_run_of_another_date_decides_again_and_a_retry_does_not(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path
) -> None:
    today = datetime.datetime.now(datetime.UTC).replace(hour=12) + datetime.timedelta(days=1)  # after the table
    dates = [(name, today.date() - datetime.timedelta(days=days)) for name, days in (("a", 0), ("b", 6), ("c", 8))]
    rows = [(name, f"document {name} of a lake of data", published) for name, published in dates]
    path = tmp_path / "documents"
    spark.createDataFrame(rows, "id string, body string, published date").write.format("delta").option(
        "delta.enableChangeDataFeed", "true"
    ).save(str(path))
    pipeline = Pipeline.model_validate(
        {
            "name": "mail",
            "source": {"path": str(path), "id": "id", "text": "body"},
            "label_set": ["spam"],
            "model": tiny_bi_encoder,
            "tables": str(tmp_path / "lake"),
            "reject": [{"reason": "old", "when": "datediff(run_date, published) > 7"}],
            "routes": [{"route": "today", "when": "published = run_date"}],
        }
    )

    def run(run_id: str, until: datetime.datetime) -> tuple[dict[str, bool], set[str], set[str]]:
        """Return whether each job decided about all documents, and the ids in `kept` and in the route."""
        attempt = PipelineRun(spark, pipeline, run_id, device="cpu", until=until)
        manifests = {step: STEPS[step](attempt) for step in pipeline.steps}
        kept, routed = ({row["doc_id"] for row in stored_rows(attempt.lake.path(name))} for name in ("kept", "today"))
        return {step: manifests[step].full_scan for step in ("filter", "route")}, kept, routed

    assert run("first", today) == ({"filter": True, "route": True}, {"a", "b"}, {"a"})
    assert run("first", today) == ({"filter": True, "route": True}, {"a", "b"}, {"a"})  # that of the finished run
    assert run("same day", today) == ({"filter": False, "route": False}, {"a", "b"}, {"a"})
    later = today + datetime.timedelta(days=3)
    assert run("later", later) == ({"filter": True, "route": True}, {"a"}, set())


def test_a_text_in_a_column_is_never_a_time_by_its_name(spark: SparkSession) -> None:
    with lenient_sql(spark):
        rows = spark.sql("select * from values ('now'), ('today'), ('2026-01-31') as documents(title)")
        dates = rows.select(F.expr("cast(title as date)"), F.expr("to_timestamp(title) is null")).collect()
    assert [tuple(row) for row in dates] == [(None, True), (None, True), (datetime.date(2026, 1, 31), False)]


def test_a_key_of_json_is_read(spark: SparkSession) -> None:
    when = "get_json_object(title, '$.author[0].name') = 'Ann'"
    rows = spark.sql(
        """select * from values ('{"author": [{"name": "Ann"}]}'), ('{}'), ('no json') as documents(title)"""
    )
    assert [row[0] for row in rows.select(F.expr(RejectRule(reason="r", when=when).when)).collect()] == [
        True,
        None,
        None,
    ]


def test_a_rule_that_spark_refuses_is_named(spark: SparkSession) -> None:
    with pytest.raises(RulesError, match=r"^pipeline 'mail': reject rule 'r': Spark can't evaluate 'scores > 1': "):
        check(spark, "scores > 1")
