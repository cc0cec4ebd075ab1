"""The columns of `tags` have one source, with which the copies for code without Spark, and the docs, agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pyspark.sql.types import ArrayType, IntegerType, MapType, StringType, StructField, StructType

from gliclass_spark.config.output import Output
from gliclass_spark.config.rule_sql import TAG_COLUMNS
from gliclass_spark.spark.delta.ddl import assignments, column_definitions
from gliclass_spark.spark.delta.schema import (
    DECISION_COMMENTS,
    EXPLORATION_FIELDS,
    FEEDBACK,
    FEEDBACK_COMMENTS,
    KEY,
    TAG_COMMENTS,
    TAG_FIELDS,
    TAGS,
    decisions_spec,
)

NOT_IN_RULES = {KEY, "propensities", "deleted_at"}
DOCS = Path(__file__).parents[3] / "docs" / "reference" / "tables.md"


def test_rules_may_use_the_columns_of_tags_but_the_id_the_propensities_and_the_deletion() -> None:
    assert list(TAG_COLUMNS) == [name for name in TAGS.names if name not in NOT_IN_RULES]


def test_a_row_of_tags_is_the_text_its_scores_its_exploration_and_its_run() -> None:
    run_columns = ["run_id", "tagged_at", "deleted_at"]
    assert TAGS.names == [KEY, "content_hash", *TAG_FIELDS.names, *EXPLORATION_FIELDS.names, *run_columns]


@pytest.mark.parametrize(
    ("section", "comments"), [("tags", TAG_COMMENTS), ("feedback", FEEDBACK_COMMENTS), ("kept", DECISION_COMMENTS)]
)
def test_comments_of_columns_are_what_the_docs_say(section: str, comments: dict[str, str]) -> None:
    text = DOCS.read_text(encoding="utf-8").split(f"\n## {section}")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+?) \|", text, re.MULTILINE))
    assert documented
    for column, meaning in documented.items():
        assert meaning.startswith(comments[column]), column


def test_every_column_of_tags_and_feedback_has_a_comment() -> None:
    assert list(TAG_COMMENTS) == TAGS.names
    assert list(FEEDBACK_COMMENTS) == FEEDBACK.names


def test_names_and_texts_stay_what_they_are_in_sql() -> None:
    hostile = "a` INT, `b"
    nested = StructType([StructField(hostile, IntegerType(), nullable=False)])
    schema = StructType(
        [
            StructField(hostile, StringType(), nullable=False, metadata={"comment": "it's \\ a text"}),
            StructField("nested", MapType(StringType(), ArrayType(nested))),
        ]
    )
    assert column_definitions(schema) == (
        r"`a`` INT, ``b` string NOT NULL COMMENT 'it\u0027s \u005C a text', "
        "`nested` MAP<string, ARRAY<STRUCT<`a`` INT, ``b`: int NOT NULL>>>"
    )
    assert assignments({"team.owner": "ada's"}) == r"'team.owner' = 'ada\u0027s'"


@pytest.mark.parametrize(
    ("output", "layout"),
    [
        ({}, ((), (KEY,))),
        ({"cluster_by": ["lang"]}, ((), ("lang",))),
        ({"partition_by": ["lang"]}, (("lang",), ())),
    ],
)
def test_tables_of_decided_documents_are_partitioned_or_clustered(
    output: dict[str, list[str]], layout: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    spec = decisions_spec("kept", TAGS, Output.model_validate(output))
    assert (spec.partition_by, spec.cluster_by) == layout
