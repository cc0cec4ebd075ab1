"""Pipeline configuration: unknown keys, invalid values and invalid combinations are refused when a file is read."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pipeline_files import DOCUMENT, FULL, merged, refusal, write
from pydantic import ValidationError

from gliclass_spark.config.pipeline import Pipeline, Source
from gliclass_spark.config.rules import RejectRule, Route, Rules
from gliclass_spark.errors import ConfigError, LabelSetError, RulesError
from gliclass_spark.labels import LabelSet


def test_a_file_with_every_key_is_read(pipelines: Path, tmp_path: Path) -> None:
    expected = Pipeline(
        name="demo",
        source=Source(
            path=str(tmp_path / "lake/demo/documents"), format="parquet", id="doc_id", text="text", columns=("title",)
        ),
        label_set=LabelSet.of("machine learning", "web", name="software"),
        model=str(tmp_path / "conf/pipelines/models/small"),
        tables=str(tmp_path / "lake/demo"),
        reject=(RejectRule(reason="too_short", when="token_count < 20"),),
        routes=(Route(route="machine_learning", when="scores['machine learning'] >= 0.5"),),
        default_route="rest",
        max_error_ratio=0.05,
    )
    assert Pipeline.from_yaml(write(pipelines, FULL)).model_dump() == expected.model_dump()


def test_keys_that_are_left_out_have_defaults(pipelines: Path) -> None:
    pipeline = Pipeline.from_yaml(write(pipelines, DOCUMENT))
    assert (pipeline.source.format, pipeline.source.table, pipeline.source.columns) == ("delta", None, None)
    assert (pipeline.model, pipeline.default_route, pipeline.max_error_ratio) == ("embedded", "unrouted", 0.01)
    assert (pipeline.reject, pipeline.routes) == ((), ())


def test_the_rules_of_a_file_and_their_hash(pipelines: Path) -> None:
    pipeline = Pipeline.from_yaml(write(pipelines, FULL))
    expected = Rules(reject=pipeline.reject, routes=pipeline.routes, default_route="rest")
    assert pipeline.rules == expected
    assert pipeline.rules.hash == expected.hash


def test_hashes_do_not_depend_on_the_order_of_yaml_keys(tmp_path: Path) -> None:
    document = merged(routes=[{"route": "a", "when": "true"}], reject=[{"when": "false", "reason": "b"}])
    hashes = set()
    for keys in itertools.islice(itertools.permutations(document), 0, 720, 40):
        path = tmp_path / "any.yaml"
        path.write_text(yaml.safe_dump({key: document[key] for key in keys}, sort_keys=False), encoding="utf-8")
        pipeline = Pipeline.from_yaml(path)
        hashes.add((pipeline.rules.hash, pipeline.label_set.hash))
    assert len(hashes) == 1


def test_an_inline_label_set_is_named_after_the_pipeline(pipelines: Path) -> None:
    assert Pipeline.from_yaml(write(pipelines, DOCUMENT)).label_set == LabelSet.of(
        "machine learning", "web", name="demo"
    )
    inline = {"labels": ["web", {"name": "art", "threshold": 0.7}], "multi_label": False}
    label_set = Pipeline.from_yaml(write(pipelines, merged(label_set=inline))).label_set
    assert (label_set.name, label_set.names, label_set.multi_label) == ("demo", ("web", "art"), False)
    label_set = Pipeline.from_yaml(write(pipelines, merged(label_set={"name": "own", "labels": ["web"]}))).label_set
    assert label_set.name == "own"


def test_an_error_in_an_inline_label_set_names_the_key(pipelines: Path) -> None:
    assert refusal(pipelines, merged(label_set=["web", "web"])) == (
        "label_set.labels: label 'web' appears twice; remove one"
    )
    assert refusal(pipelines, merged(label_set={"labels": [{"name": "web", "threshold": 2}]})) == (
        "label_set.labels.0.threshold: Input should be less than or equal to 1, found 2"
    )


def test_an_error_in_the_label_set_file_names_both_files(pipelines: Path, tmp_path: Path) -> None:
    labels = tmp_path / "conf/labels/none.yaml"
    assert refusal(pipelines, merged(label_set="../labels/none.yaml"), LabelSetError) == (
        f"label set {labels} does not exist; check the path"
    )
    labels.write_text("labels: []", encoding="utf-8")
    assert refusal(pipelines, merged(label_set="../labels/none.yaml"), LabelSetError) == (
        f"{labels}: labels: holds no label; name at least one"
    )


def test_a_label_set_in_an_object_store_is_refused(pipelines: Path) -> None:
    assert refusal(pipelines, merged(label_set="s3a://bucket/labels.yaml")) == (
        "label_set: 's3a://bucket/labels.yaml' is not a local file, which a label set must be; copy it beside this file"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tabels": "x"}, "unknown key 'tabels'; remove it, or check its spelling"),
        ({"source": {"pth": "x"}}, "unknown key 'source.pth'; remove it, or check its spelling"),
        (
            {"reject": [{"reason": "a", "when": "true", "then": "b"}]},
            "unknown key 'reject.0.then'; remove it, or check its spelling",
        ),
        ({"name": ...}, "'name' is missing; add it"),
        ({"tables": ...}, "'tables' is missing; add it"),
        ({"label_set": ...}, "'label_set' is missing; add it"),
        ({"source": {"id": ...}}, "'source.id' is missing; add it"),
        ({"routes": [{"route": "a"}]}, "'routes.0.when' is missing; add it"),
        ({"name": "Demo"}, "name: String should match pattern '^[a-z0-9][a-z0-9_-]*$', found 'Demo'"),
        ({"name": "../x"}, "name: String should match pattern '^[a-z0-9][a-z0-9_-]*$', found '../x'"),
        ({"name": "a\n"}, "name: String should match pattern '^[a-z0-9][a-z0-9_-]*$', found 'a\\n'"),
        (
            {"source": {"format": "orc"}},
            "source.format: Input should be 'delta', 'parquet', 'json' or 'csv', found 'orc'",
        ),
        (
            {"routes": [{"route": "a", "when": True}]},
            "routes.0.when: Input should be a valid string, found True",
        ),
        ({"max_error_ratio": 1.5}, "max_error_ratio: Input should be less than or equal to 1, found 1.5"),
        ({"max_error_ratio": -0.1}, "max_error_ratio: Input should be greater than or equal to 0, found -0.1"),
        ({"max_error_ratio": True}, "max_error_ratio: Input should be a valid number, found True"),
        ({"max_error_ratio": "1%"}, "max_error_ratio: Input should be a valid number, found '1%'"),
        ({"source": {"path": ...}}, "source: has neither 'path' nor 'table'; add one"),
        ({"source": {"table": "main.docs"}}, "source: has both 'path' and 'table'; remove one"),
        (
            {"source": {"path": ..., "table": "main.docs", "format": "delta"}},
            "source: has 'format' beside 'table', whose format Spark knows; remove 'format'",
        ),
        (
            {"source": {"text": "DOC_ID"}},
            "source: column 'DOC_ID' is named twice among id, text and columns; remove one",
        ),
        (
            {"source": {"columns": ["title", "text"]}},
            "source: column 'text' is named twice among id, text and columns; remove one",
        ),
        (
            {"source": {"columns": ["title", "Title"]}},
            "source: column 'Title' is named twice among id, text and columns; remove one",
        ),
        (
            {"source": {"id": "url", "columns": ["doc_id"]}},
            "source: 'doc_id' is the name of the id in the tables, but the id is 'url'; rename the column",
        ),
        (
            {"source": {"columns": ["Labels"]}},
            "source.columns.0: 'Labels' is a column that tagging adds; rename the column of the documents",
        ),
        (
            {"source": {"encoding": "windows-1252"}},
            "source: has 'encoding', which is for csv and json, not for delta; remove it",
        ),
        (
            {"source": {"format": "json", "delimiter": ";"}},
            "source: has 'delimiter', which is for csv, not for json; remove it",
        ),
        (
            {"source": {"path": ..., "table": "main.docs", "options": {"x": 1}}},
            "source: has 'options', which is for parquet and csv and json, not for table; remove it",
        ),
        (
            {"source": {"format": "csv", "options": {"SEP": ";"}}},
            "source: has the option 'SEP', which has a key of its own: write source.delimiter",
        ),
        (
            {"source": {"format": "csv", "options": {"mode": "DROPMALFORMED"}}},
            "source: has the option 'mode', which is not for pipelines: a record that can't be read goes to "
            "`quarantined`; remove it",
        ),
        (
            {"source": {"id": "a`b"}},
            "source.id: 'a`b' can't be a column; give a name of printable characters without backquotes",
        ),
    ],
)
def test_an_invalid_value_is_refused_with_key_value_and_fix(
    pipelines: Path, changes: dict[str, Any], message: str
) -> None:
    assert refusal(pipelines, merged(**changes)) == message


@pytest.mark.parametrize("table", ["docs", "main.docs", "unity.main._docs2", "`my-catalog`.main.`straße 1`"])
def test_a_catalog_table_has_one_to_three_names(pipelines: Path, table: str) -> None:
    pipeline = Pipeline.from_yaml(write(pipelines, merged(source={"path": ..., "table": table})))
    assert pipeline.source.table == table


@pytest.mark.parametrize(
    "table",
    [
        "",
        "a.b.c.d",
        "a..b",
        "1a",
        "a b",
        "a;drop table x",
        "`a",
        "``",
        "a.`b``c`",
        "delta.`/etc`",
        "a\n",
        "a-b",
        "(select 1)",
        "é",
    ],
)
def test_a_table_name_with_other_characters_is_refused(pipelines: Path, table: str) -> None:
    assert refusal(pipelines, merged(source={"path": ..., "table": table})) == (
        f"source.table: {table!r} is no table name; write one to three names of A-Z, a-z, 0-9, _ with dots, "
        "others in backquotes"
    )


@given(st.floats(0.0, 1.0) | st.sampled_from([0, 1]))
def test_every_share_from_zero_to_one_is_accepted(share: float) -> None:
    assert Pipeline.model_validate(merged(max_error_ratio=share)).max_error_ratio == share


@given(st.floats().filter(lambda value: not 0.0 <= value <= 1.0))
def test_every_other_share_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="max_error_ratio"):
        Pipeline.model_validate(merged(max_error_ratio=share))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"reject": [{"reason": "a", "when": "true; DROP TABLE x"}]},
            "reject rule 'a': ';' ends a statement, and a rule is one expression; remove it",
        ),
        (
            {"routes": [{"route": "../a", "when": "true"}]},
            "route '../a': a name has 1 to 63 of a-z, 0-9 and _, and does not begin with _; rename it",
        ),
        (
            {"routes": [{"route": "kept", "when": "true"}]},
            "route 'kept': the jobs write a table of that name themselves; rename it",
        ),
        ({"default_route": "tags"}, "default_route 'tags': the jobs write a table of that name themselves; rename it"),
        (
            {"routes": [{"route": "a", "when": "scores['wep'] > 0.5"}]},
            "label set 'demo': route 'a': unknown label 'wep'; did you mean 'web'?",
        ),
    ],
)
def test_an_invalid_rule_is_refused_when_the_file_is_read(
    pipelines: Path, changes: dict[str, Any], message: str
) -> None:
    assert refusal(pipelines, merged(**changes), RulesError) == message


def test_columns_in_rules_are_checked_with_the_schema_of_the_documents(pipelines: Path) -> None:
    document = merged(routes=[{"route": "a", "when": "langage = 'en'"}])
    pipeline = Pipeline.from_yaml(write(pipelines, document))
    pipeline.rules.check(["doc_id", "text", "langage"], pipeline.label_set.names, "demo.yaml")
    with pytest.raises(RulesError) as caught:
        pipeline.rules.check(["doc_id", "text", "language"], pipeline.label_set.names, "demo.yaml")
    assert str(caught.value) == "demo.yaml: route 'a': unknown column 'langage'; did you mean 'language'?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", " is not valid YAML: key 'name' appears twice, again in line 2; remove one"),
        ("source: {id: a, 'id': b}", " is not valid YAML: key 'id' appears twice, again in line 1; remove one"),
        ("", "the document: Input should be a valid dictionary or instance of Pipeline, found None"),
        ("- a", "the document: Input should be a valid dictionary or instance of Pipeline, found ['a']"),
    ],
)
def test_a_file_with_duplicate_keys_or_without_a_mapping_is_refused(pipelines: Path, text: str, message: str) -> None:
    assert refusal(pipelines, text) == message


def test_a_missing_file_is_reported_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Pipeline.from_yaml(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml does not exist; check the path"


def test_a_pipeline_may_only_tag(pipelines: Path) -> None:
    assert Pipeline.from_yaml(write(pipelines, merged(steps=["tag"]))).steps == ("tag",)


@pytest.mark.parametrize("steps", [[], ["filter"], ["tag", "route"], ["filter", "tag"], ["tag", "tag"]])
def test_steps_with_gaps_or_out_of_order_are_refused(steps: list[str], pipelines: Path) -> None:
    assert "steps: each step reads the tables of the one before it" in refusal(pipelines, merged(steps=steps))


def test_rules_without_their_step_are_refused(pipelines: Path) -> None:
    document = merged(steps=["tag", "filter"], routes=[{"route": "all", "when": "true"}])
    assert "'routes' has rules, but 'steps' has no 'route'" in refusal(pipelines, document)
    document = merged(steps=["tag"], reject=[{"reason": "all", "when": "true"}])
    assert "'reject' has rules, but 'steps' has no 'filter'" in refusal(pipelines, document)


def test_a_pipeline_is_immutable() -> None:
    pipeline = Pipeline.model_validate(DOCUMENT)
    with pytest.raises(ValidationError, match="frozen"):
        pipeline.tables = "/elsewhere"


def test_the_options_of_a_source_are_texts_as_sparks_readers_take_them(pipelines: Path) -> None:
    options = {"recursiveFileLookup": True, "maxColumns": 30000, "pathGlobFilter": "*.csv"}
    source = {"format": "csv", "delimiter": ";", "header": False, "encoding": "windows-1252", "options": options}
    read = Pipeline.from_yaml(write(pipelines, merged(source=source))).source
    assert read.options == {"recursiveFileLookup": "true", "maxColumns": "30000", "pathGlobFilter": "*.csv"}
    assert (read.delimiter, read.header, read.encoding, read.multiline) == (";", False, "windows-1252", None)


def test_the_condition_of_a_source_is_checked_like_a_rule(pipelines: Path) -> None:
    source = {"where": " language = 'en' and year >= 2020 "}
    assert Pipeline.from_yaml(write(pipelines, merged(source=source))).source.where == source["where"].strip()
    message = refusal(pipelines, merged(source={"where": "rand() < 0.1"}), RulesError)
    assert message.startswith("source.where: 'rand()' gives another value in each run")
    message = refusal(pipelines, merged(source={"where": "id in (select id from other)"}), RulesError)
    assert message.startswith("source.where: '(SELECT id FROM other)' is a query")
