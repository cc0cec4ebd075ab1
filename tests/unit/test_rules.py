"""Reject and route rules: what is let through, what is refused before Spark sees it, and why."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from gliclass_spark.conditions import TAG_COLUMNS
from gliclass_spark.errors import RulesError
from gliclass_spark.rules import RESERVED_TABLES, RejectRule, Route, Rules

COLUMNS = ("doc_id", "title", "text", "published", "meta", "odd name")
LABELS = ("machine learning", "web", "Art", "it's")


def refusal(when: str) -> str:
    """The message about a condition, without the title of the rule that every message begins with."""
    with pytest.raises(RulesError) as caught:
        Route(route="r", when=when)
    title, _, message = str(caught.value).partition(": ")
    assert title == "route 'r'"
    assert "\n" not in message
    return message


def check(when: str) -> None:
    Rules(routes=(Route(route="r", when=when),)).check(COLUMNS, LABELS, "demo.yaml")


def check_refusal(when: str) -> str:
    with pytest.raises(RulesError) as caught:
        check(when)
    return str(caught.value)


@pytest.mark.parametrize(
    "when",
    [
        "scores['machine learning'] >= 0.5",
        'scores["web"] >= 0.5',
        "scores.web >= 0.5 and scores.`machine learning` < 0.1",
        "element_at(scores, 'web') > 0.5 or try_element_at(SCORES, 'web') is null",
        "scores['it\\'s'] > 0.5",
        "scores[labels[0]] > 0.9",
        "array_contains(labels, 'web') and not array_contains(labels, 'Art')",
        "arrays_overlap(labels, array('web', 'Art'))",
        "labels[0] = 'web' or 'web' = element_at(labels, 1)",
        "map_contains_key(scores, 'web')",
        "exists(labels, l -> scores[l] > 0.9)",
        "size(filter(map_values(scores), v -> v > 0.5)) > 2",
        "aggregate(map_values(scores), 0F, (total, v) -> total + v) > 1",
        "token_count < 20",
        "TOKEN_COUNT between 20 and 1000",
        "(token_count + 1) % 2 = 0 and -token_count < 5L",
        "error is not null",
        "error.code = 'huge'",
        "meta.author.name in ('a', 'b')",
        "`odd name` is null and `TITLE` = 'x'",
        "title like any ('a%', 'b%') or title not rlike r'\\d+'",
        "title ilike '%x!%%' escape '!'",
        "length(trim(both ' ' from title)) > 3",
        "case when (title is null) then (true) else (false) end",
        "coalesce(title = 'x', false)",
        "cast(title as decimal(10, 2)) > 1.5 or title::int <=> 3",
        "published > date '2020-01-01' - interval 1 day",
        "extract(year from published) = 2020",
        "text = 'true; DROP TABLE x' or text = 'now() -- current_date'",
        "true",
    ],
)
def test_a_condition_on_one_row_is_accepted(when: str) -> None:
    check(when)


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("", "the condition is empty; write one such as scores['web'] >= 0.5"),
        ("  ", "the condition is empty; write one such as scores['web'] >= 0.5"),
        (
            "token_count <",
            "'token_count <' is not one SQL expression, see '<'; write one such as scores['web'] >= 0.5",
        ),
        (
            "1=1) OR (1=1",
            "'1=1) OR (1=1' is not one SQL expression, see ')'; write one such as scores['web'] >= 0.5",
        ),
        (
            "token_count < 5 AS short",
            "'token_count < 5 AS short' is not one SQL expression, see 'AS'; write one such as scores['web'] >= 0.5",
        ),
        (
            "DROP TABLE x",
            "'DROP TABLE x' is not one SQL expression, see 'DROP'; write one such as scores['web'] >= 0.5",
        ),
        (
            "SELECT 1",
            "'SELECT 1' is not one SQL expression, see 'SELECT'; write one such as scores['web'] >= 0.5",
        ),
        ("map('a') = 1", "\"map('a') = 1\" is not one SQL expression; write one such as scores['web'] >= 0.5"),
        ("title = 'a", "\"title = 'a\" can't be read; close the quote or the comment that it opens"),
        ("true; DROP TABLE x", "';' ends a statement, and a rule is one expression; remove it"),
        ("true;", "';' ends a statement, and a rule is one expression; remove it"),
        ("(SELECT 1)", "'(SELECT 1)' is a query, and a rule sees one row; join in an earlier step, and use the column"),
        (
            "title in (select t from x)",
            "'(SELECT t FROM x)' is a query, and a rule sees one row; join in an earlier step, and use the column",
        ),
        (
            "exists(select 1)",
            "'SELECT 1' is a query, and a rule sees one row; join in an earlier step, and use the column",
        ),
        ("*", "'*' stands for every column; name the ones that you mean"),
        ("struct(*) is null", "'*' stands for every column; name the ones that you mean"),
        ("count(*) > 1", "'COUNT(*)' is an aggregate, and a rule sees one row; compute a column in an earlier step"),
        (
            "sum(token_count) over () > 1",
            "'SUM(token_count) OVER ()' looks at other rows, and a rule sees one; compute a column in an earlier step",
        ),
        (
            "any(error is null)",
            "'ANY(error IS NULL)' is only for LIKE; to look at other rows, compute a column in an earlier step",
        ),
        (":limit > 1", "':limit' is a parameter that nobody fills in; write the value itself"),
        ("? > 1", "'?' is a parameter that nobody fills in; write the value itself"),
        ("'${env:HOME}' = text", "'${' would be replaced by Spark after this check; write the value itself"),
        (
            "scores['web']",
            "\"scores['web']\" is a value and no condition; compare it, as in scores['web'] >= 0.5",
        ),
        (
            "not (scores.web) and true",
            "'scores.web' is a value and no condition; compare it, as in scores['web'] >= 0.5",
        ),
        ("token_count + 1", "'token_count + 1' is a value and no condition; compare it, as in scores['web'] >= 0.5"),
        (
            "x'1F' = text",
            "\"X'1F'\" is nothing that a rule may hold; use columns, values, operators and functions",
        ),
    ],
)
def test_what_is_no_condition_on_one_row_is_refused_with_its_mend(when: str, message: str) -> None:
    assert refusal(when) == message


@pytest.mark.parametrize(
    "when", ["token_count < 5 -- short", "token_count < 5 /* short */", "/**/ token_count < 5", "token_count --\n < 5"]
)
def test_comments_are_refused_because_spark_reads_some_of_them(when: str) -> None:
    assert refusal(when) == "the condition holds a comment; write it behind a # in the YAML file instead"


@pytest.mark.parametrize("when", ["-- all", "/* all */"])
def test_a_comment_alone_is_an_empty_condition(when: str) -> None:
    assert refusal(when) == "the condition is empty; write one such as scores['web'] >= 0.5"


@pytest.mark.parametrize(
    ("when", "piece"),
    [
        ("rand() < 0.1", "'rand()'"),
        ("UUID() = text", "'UUID()'"),
        ("unix_timestamp() > 1", "'unix_timestamp()'"),
        ("input_file_name() = 'x'", "'input_file_name()'"),
        ("monotonically_increasing_id() < 10", "'monotonically_increasing_id()'"),
        ("spark_partition_id() = 0", "'spark_partition_id()'"),
        ("now() > published", "'now()'"),
        ("current_timestamp() > published", "'current_timestamp'"),
        ("current_date > published", "'current_date'"),
        ("`current_date` > published", "'current_date'"),
        ("published < DATE 'today'", "\"CAST('today' AS DATE)\""),
        ("published < timestamp ' Now'", "\"CAST(' Now' AS TIMESTAMP)\""),
    ],
)
def test_what_changes_from_run_to_run_is_refused(when: str, piece: str) -> None:
    assert refusal(when) == (
        f"{piece} answers differently from run to run; compute a column in an earlier step, and use that"
    )


@pytest.mark.parametrize(
    ("when", "name"),
    [
        ("java_method('java.lang.System', 'exit', 0) is null", "java_method()"),
        ("reflect('java.lang.System', 'exit', 0) is null", "reflect()"),
        ("try_reflect('java.lang.System', 'exit', 0) is null", "try_reflect()"),
        ("raise_error('x')", "raise_error()"),
        ("assert_true(false) is null", "assert_true()"),
        ("my_udf(text)", "my_udf()"),
        ("`my_udf`(text)", "my_udf()"),
        ("2udf(text)", "2udf()"),
        ("db.my_udf(text)", "my_udf()"),
        ("exists(labels, l -> my_udf(l))", "my_udf()"),
        ("identifier('title') = 'x'", "identifier()"),
        ("explode(labels) = 'x'", "explode()"),
        ("SAFE_DIVIDE(token_count, 2) = 1", "SAFE_DIVIDE()"),
        ("current_catalog() = 'x'", "current_catalog()"),
    ],
)
def test_only_built_in_functions_of_one_row_may_be_called(when: str, name: str) -> None:
    message = refusal(when)
    assert message.startswith(f"'{name}' is none of Spark's built-in functions of one row that a rule may call; ")
    assert message.endswith("compute a column in an earlier step, and use that")


def test_a_built_in_name_with_a_schema_is_refused_because_a_user_may_have_made_it() -> None:
    assert refusal("sys.upper(title) = 'X'") == (
        "'.upper()' is none of Spark's built-in functions of one row that a rule may call; "
        "did you mean 'upper'? Otherwise compute a column in an earlier step, and use that"
    )


def test_a_misspelled_function_is_answered_with_the_near_one() -> None:
    assert refusal("array_contain(labels, 'web')") == (
        "'array_contain()' is none of Spark's built-in functions of one row that a rule may call; did you mean "
        "'array_contains' or 'array_join' or 'array_min'? Otherwise compute a column in an earlier step, and use that"
    )


def test_a_condition_nested_too_deeply_is_refused_and_a_long_one_is_not() -> None:
    assert refusal("(" * 3000 + "true" + ")" * 3000) == (
        "the condition is nested too deeply; split it into several rules"
    )
    check(" and ".join(["token_count > 1"] * 500))


@given(st.text(max_size=60))
@example("if a then b")
@example("CREATE x")
@example("{{ x }}")
@example("x -> x")
@example("\x00")
def test_any_text_gives_a_rule_or_one_rules_error(text: str) -> None:
    try:
        Route(route="r", when=text)
    except RulesError as error:
        assert str(error).startswith("route 'r': ")  # noqa: PT017


@given(
    st.sampled_from(
        [
            "true; DROP TABLE x",
            "(SELECT 1)",
            "java_method('java.lang.System','exit',0)",
            "my_udf(text)",
            "`my_udf` (text)",
            "rand() < 1",
            "count(*)",
            "'${x}' = ''",
        ]
    ),
    st.sampled_from(
        [
            "{}",
            "token_count < 5 or {}",
            "not ({})",
            "{} and true",
            "if({}, true, false)",
            "exists(labels, l -> {})",
            "case when {} then true end",
            "coalesce({}, true)",
        ]
    ),
    st.sampled_from(["", " ", "\n", "\t"]),
)
def test_an_injection_is_refused_wherever_it_stands(attack: str, place: str, space: str) -> None:
    refusal(place.format(f"{space}{attack}{space}"))


@pytest.mark.parametrize("text", ["--", "/*", "*/", ";", "rand()", "my_udf(", "(select 1)", "current_date", "$"])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_the_same_texts_inside_quotes_are_only_text(text: str, quote: str) -> None:
    check(f"title = {quote}{text}{quote}")


def test_an_unknown_label_is_told_with_file_rule_and_the_near_ones() -> None:
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
def test_an_unknown_label_is_found_in_every_spelling(when: str) -> None:
    assert check_refusal(when) == "demo.yaml: route 'r': unknown label 'wep'; did you mean 'web'?"


def test_without_a_near_label_the_labels_are_listed() -> None:
    assert check_refusal("scores['zzz'] > 0.5") == (
        "demo.yaml: route 'r': unknown label 'zzz'; there are Art, it's, machine learning, web"
    )


def test_a_long_list_of_labels_is_cut() -> None:
    rules = Rules(routes=(Route(route="r", when="scores['zzz'] > 0.5"),))
    with pytest.raises(RulesError, match=r"there are 00, 01, .*, 19 and 5 more$"):
        rules.check_labels([f"{number:02}" for number in range(25)], "demo.yaml")


def test_a_label_in_two_quoted_texts_is_refused_because_spark_versions_differ_on_it() -> None:
    assert check_refusal("scores['it''s'] > 0.5") == (
        "demo.yaml: route 'r': \"CONCAT('it', 's')\" is a label put together; "
        "write it as one text, with \\' for a quote in it"
    )


def test_an_unknown_column_is_told_with_file_rule_and_the_near_ones() -> None:
    assert check_refusal("token_cuont < 20") == (
        "demo.yaml: route 'r': unknown column 'token_cuont'; did you mean 'token_count'?"
    )


def test_without_a_near_column_the_columns_are_listed() -> None:
    assert check_refusal("zzz is null") == (
        "demo.yaml: route 'r': unknown column 'zzz'; there are chunk_count, content_hash, doc_id, error, label_set, "
        "label_set_hash, labels, meta, model, model_digest, odd name, published, run_id, scores, tagged_at, text, "
        "title, token_count"
    )


@pytest.mark.parametrize("when", ["other.title = 'x'", "`meta.author` = 'x'", "exists(labels, l -> other = l)"])
def test_only_the_root_of_a_column_decides_and_lambda_parameters_are_no_columns(when: str) -> None:
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
    assert list(TAG_COLUMNS) == f"{names} run_id tagged_at".split()


@pytest.mark.parametrize(
    "name", ["", "_a", "A", "a-b", "a.b", "a b", "../a", "a/b", "a`b", "a\n", "é", "x" * 64, "a;drop"]
)
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    mend = "a name has 1 to 63 of a-z, 0-9 and _, and begins with no _; rename it"
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("reject rule", {"reject": [{"reason": name, "when": "true"}]}),
        ("route", {"routes": [{"route": name, "when": "true"}]}),
        ("default_route", {"default_route": name}),
    )
    for title, document in cases:
        with pytest.raises(RulesError) as caught:
            Rules.model_validate(document)
        assert str(caught.value) == f"{title} {name!r}: {mend}"


@pytest.mark.parametrize("name", sorted(RESERVED_TABLES))
def test_a_route_can_not_take_the_name_of_a_table_of_the_jobs(name: str) -> None:
    mend = "the jobs keep a table of that name themselves; rename it"
    with pytest.raises(RulesError) as caught:
        Rules(routes=(Route(route=name, when="true"),))
    assert str(caught.value) == f"route {name!r}: {mend}"
    with pytest.raises(RulesError) as caught:
        Rules(default_route=name)
    assert str(caught.value) == f"default_route {name!r}: {mend}"
    assert Rules(reject=(RejectRule(reason=name, when="true"),)).reject[0].reason == name


def test_a_name_twice_is_refused() -> None:
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


def test_rules_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Route(route="a", when="true").when = "rand() < 1"


def test_rules_need_neither_spark_nor_torch() -> None:
    script = (
        "import sys, gliclass_spark.config; "
        "print(sorted({'pyspark', 'torch', 'transformers', 'airflow'} & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
