"""The columns of `tags` have one source, with which the copies for code without Spark agree."""

from __future__ import annotations

from gliclass_spark.config.rule_sql import TAG_COLUMNS
from gliclass_spark.spark.delta.schema import EXPLORATION_FIELDS, KEY, TAG_FIELDS, TAGS

NOT_IN_RULES = {KEY, "propensities", "deleted_at"}


def test_rules_may_use_the_columns_of_tags_but_the_id_the_propensities_and_the_deletion() -> None:
    assert list(TAG_COLUMNS) == [name for name in TAGS.names if name not in NOT_IN_RULES]


def test_a_row_of_tags_is_the_text_its_scores_its_exploration_and_its_run() -> None:
    run_columns = ["run_id", "tagged_at", "deleted_at"]
    assert TAGS.names == [KEY, "content_hash", *TAG_FIELDS.names, *EXPLORATION_FIELDS.names, *run_columns]
