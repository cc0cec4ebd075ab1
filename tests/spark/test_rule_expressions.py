"""Rules under Spark: what only its analysis shows, as a time that a constant expression names."""

from __future__ import annotations

import datetime

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.config.pipeline import Source
from gliclass_spark.config.rule_sql import CLOCK
from gliclass_spark.config.rules import RejectRule, Rules
from gliclass_spark.errors import RulesError, TableError
from gliclass_spark.spark.source import Documents
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
    source = Source(table="dated", id="doc_id", text="title", columns=(), where="at < concat('n', 'ow')")
    with pytest.raises(TableError) as refused:
        Documents(spark, source).read()
    assert str(refused.value) == f"table dated: source.where \"at < concat('n', 'ow')\" {CLOCK}"


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
