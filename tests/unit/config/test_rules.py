"""Reject and route rules: names that they may use, and what their hash covers."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rule_check import COLUMNS, LABELS, check

from gliclass_spark.config.rule_sql import TAG_COLUMNS
from gliclass_spark.config.rules import RESERVED_TABLES, RejectRule, Route, Rules
from gliclass_spark.errors import RulesError


def check_refusal(when: str) -> str:
    with pytest.raises(RulesError) as caught:
        check(when)
    return str(caught.value)


def test_an_unknown_label_is_reported_with_file_rule_and_suggestions() -> None:
    rules = Rules(reject=(RejectRule(reason="art", when="scores['art'] > 0.5"),))
    with pytest.raises(RulesError) as caught:
        rules.check(COLUMNS, LABELS, "demo.yaml")
    assert str(caught.value) == "demo.yaml: reject rule 'art': unknown label 'art'; did you mean 'Art'?"


@pytest.mark.parametrize(
    "when",
    [
        "scores['wep'] > 0.5",
        "scores.wep > 0.5",
        "scores.`wep` > 0.5",
        "Scores[r'wep'] > 0.5",
        "element_at(scores, 'wep') > 0.5",
        "try_element_at(scores, 'wep') > 0.5",
        "map_contains_key(scores, 'wep')",
        "array_contains(labels, 'wep')",
        "arrays_overlap(labels, array('Art', 'wep'))",
        "arrays_overlap(array('Art', 'wep'), labels)",
        "labels[0] = 'wep'",
        "'wep' <> element_at(labels, 1)",
        "not exists(labels, l -> scores['wep'] > 0.5)",
    ],
)
def test_an_unknown_label_is_detected_in_every_syntax(when: str) -> None:
    assert check_refusal(when) == "demo.yaml: route 'r': unknown label 'wep'; did you mean 'web'?"


def test_without_a_suggestion_the_labels_are_listed() -> None:
    assert check_refusal("scores['zzz'] > 0.5") == (
        "demo.yaml: route 'r': unknown label 'zzz'; there are Art, it's, machine learning, web"
    )


def test_a_long_list_of_labels_is_cut() -> None:
    rules = Rules(routes=(Route(route="r", when="scores['zzz'] > 0.5"),))
    with pytest.raises(RulesError, match=r"there are 00, 01, .*, 19 and 5 more$"):
        rules.check_labels([f"{number:02}" for number in range(25)], "demo.yaml")


def test_a_label_in_two_quoted_texts_is_refused_because_spark_versions_differ_on_it() -> None:
    assert check_refusal("scores['it''s'] > 0.5") == (
        "demo.yaml: route 'r': \"CONCAT('it', 's')\" is a label from several texts; "
        "write it as one, with \\' for a quote in it"
    )


def test_an_unknown_column_is_reported_with_file_rule_and_suggestions() -> None:
    assert check_refusal("token_cuont < 20") == (
        "demo.yaml: route 'r': unknown column 'token_cuont'; did you mean 'token_count'?"
    )


def test_without_a_suggestion_the_columns_are_listed() -> None:
    assert check_refusal("zzz is null") == (
        "demo.yaml: route 'r': unknown column 'zzz'; there are chunk_count, content_hash, doc_id, error, explored, "
        "label_set, label_set_hash, labels, meta, model, model_digest, odd name, published, run_date, run_id, scores, "
        "tagged_at, text, title, token_count"
    )


@pytest.mark.parametrize("when", ["other.title = 'x'", "`meta.author` = 'x'", "exists(labels, l -> other = l)"])
def test_struct_fields_and_lambda_parameters_are_no_columns(when: str) -> None:
    assert "unknown column" in check_refusal(when)
    check("meta.author = 'x' and exists(labels, other -> other = 'web')")


def test_rules_are_checked_in_order_reject_first() -> None:
    rules = Rules(
        reject=(RejectRule(reason="first", when="a is null"),), routes=(Route(route="second", when="b is null"),)
    )
    with pytest.raises(RulesError, match="reject rule 'first': unknown column 'a'"):
        rules.check(COLUMNS, LABELS, "demo.yaml")


def test_the_tag_columns_are_those_of_the_design() -> None:
    names = "content_hash label_set label_set_hash scores labels token_count chunk_count error model model_digest"
    assert list(TAG_COLUMNS) == f"{names} explored run_id tagged_at".split()


@pytest.mark.parametrize(
    "name", ["", "_a", "A", "a-b", "a.b", "a b", "../a", "a/b", "a`b", "a\n", "é", "x" * 64, "a;drop"]
)
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    fix = "a name has 1 to 63 of a-z, 0-9 and _, and does not begin with _; rename it"
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("reject rule", {"reject": [{"reason": name, "when": "true"}]}),
        ("route", {"routes": [{"route": name, "when": "true"}]}),
        ("default_route", {"default_route": name}),
    )
    for title, document in cases:
        with pytest.raises(RulesError) as caught:
            Rules.model_validate(document)
        assert str(caught.value) == f"{title} {name!r}: {fix}"


@pytest.mark.parametrize("name", sorted(RESERVED_TABLES))
def test_a_route_must_not_have_the_name_of_a_table_of_the_jobs(name: str) -> None:
    fix = "the jobs write a table of that name themselves; rename it"
    with pytest.raises(RulesError) as caught:
        Rules(routes=(Route(route=name, when="true"),))
    assert str(caught.value) == f"route {name!r}: {fix}"
    with pytest.raises(RulesError) as caught:
        Rules(default_route=name)
    assert str(caught.value) == f"default_route {name!r}: {fix}"
    assert Rules(reject=(RejectRule(reason=name, when="true"),)).reject[0].reason == name


def test_a_duplicate_name_is_refused() -> None:
    reject, route = RejectRule(reason="a", when="true"), Route(route="a", when="true")
    assert Rules(reject=(reject,), routes=(route,)).destinations == ("a", "unrouted")
    for rules, title in (
        ({"reject": (reject, reject)}, "reject rule 'a'"),
        ({"routes": (route, route)}, "route 'a'"),
        ({"routes": (route,), "default_route": "a"}, "default_route 'a'"),
    ):
        with pytest.raises(RulesError) as caught:
            Rules.model_validate(rules)
        assert str(caught.value) == f"{title}: the name is used twice; rename one"


def test_the_hash_is_that_of_the_canonical_json() -> None:
    rules = Rules(
        reject=(RejectRule(reason="short", when=" token_count < 20\n"),), routes=(Route(route="a", when="title = 'é'"),)
    )
    expected = (
        '{"default_route":"unrouted","reject":[{"reason":"short","when":"token_count < 20"}],'
        '"routes":[{"route":"a","when":"title = \'é\'"}],"routing":"first_match"}'
    )
    assert rules.canonical_json == expected
    assert rules.hash == hashlib.sha256(expected.encode("utf-8")).hexdigest()


@given(st.permutations(["reject", "routes", "default_route"]), st.booleans())
def test_the_hash_does_not_depend_on_the_order_of_keys(keys: list[str], when_first: bool) -> None:
    rule = {"reason": "a", "when": "true"}
    document = {
        "reject": [dict(sorted(rule.items(), reverse=when_first))],
        "routes": [{"when": "true", "route": "b"}],
        "default_route": "rest",
    }
    expected = Rules.model_validate(document).hash
    assert Rules.model_validate({key: document[key] for key in keys}).hash == expected


def test_the_hash_depends_on_every_condition_name_and_on_the_order_of_rules() -> None:
    first, second = Route(route="a", when="true"), Route(route="b", when="true")
    variants = (
        Rules(routes=(first, second)),
        Rules(routes=(second, first)),
        Rules(routes=(first,)),
        Rules(routes=(Route(route="a", when="false"),)),
        Rules(routes=(first,), default_route="rest"),
        Rules(reject=(RejectRule(reason="a", when="true"),)),
    )
    assert len({rules.hash for rules in variants}) == len(variants)


def test_an_unknown_key_of_a_rule_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Route.model_validate({"route": "a", "when": "true", "then": "b"})


def test_rules_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Route(route="a", when="true").when = "rand() < 1"


def test_rules_need_neither_spark_nor_torch() -> None:
    script = (
        "import sys, gliclass_spark.config.pipeline; "
        "print(sorted({'pyspark', 'torch', 'transformers', 'airflow'} & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
