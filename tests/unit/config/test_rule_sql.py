"""Conditions of rules: which are accepted, and which are refused before Spark sees them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rule_check import check

from gliclass_spark.config.rule_sql import CLOCK
from gliclass_spark.config.rules import Route
from gliclass_spark.errors import RulesError


def refusal(when: str) -> str:
    """Return the error message of a condition, without the title of its rule."""
    with pytest.raises(RulesError) as caught:
        Route(route="r", when=when)
    title, _, message = str(caught.value).partition(": ")
    assert title == "route 'r'"
    assert "\n" not in message
    return message


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
        "get_json_object(text, '$.author.name') = 'x' or get_json_object(text, '$[0].tags[*]') is null",
        "get_json_object(text, title) is null",
        "datediff(run_date, published) < 7 and published <= run_date",
        "published > date'1970-01-01' and published < timestamp'2026-01-31 12:00:00'",
        "title = 'today' or title in ('now', 'tomorrow') or lower(title) = 'yesterday' or title > 'now or never'",
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
        ("*", "'*' selects every column; name the ones that you need"),
        ("struct(*) is null", "'*' selects every column; name the ones that you need"),
        ("count(*) > 1", "'COUNT(*)' is an aggregate, and a rule sees one row; compute a column in an earlier step"),
        (
            "sum(token_count) over () > 1",
            "'SUM(token_count) OVER ()' reads other rows, and a rule sees one; compute a column in an earlier step",
        ),
        (
            "any(error is null)",
            "'ANY(error IS NULL)' is only for LIKE; to read other rows, compute a column in an earlier step",
        ),
        (":limit > 1", "':limit' is a parameter, which rules don't have; write the value itself"),
        ("? > 1", "'?' is a parameter, which rules don't have; write the value itself"),
        ("'${env:HOME}' = text", "'${' would be substituted by Spark after this check; write the value itself"),
        (
            "scores['web']",
            "\"scores['web']\" is a value, not a condition; compare it, as in scores['web'] >= 0.5",
        ),
        (
            "not (scores.web) and true",
            "'scores.web' is a value, not a condition; compare it, as in scores['web'] >= 0.5",
        ),
        ("run_date", "'run_date' is a value, not a condition; compare it, as in scores['web'] >= 0.5"),
        ("token_count + 1", "'token_count + 1' is a value, not a condition; compare it, as in scores['web'] >= 0.5"),
        (
            "x'1F' = text",
            "\"X'1F'\" is not allowed in a rule; use columns, values, operators and functions",
        ),
    ],
)
def test_anything_but_a_condition_on_one_row_is_refused_with_the_fix(when: str, message: str) -> None:
    assert refusal(when) == message


@pytest.mark.parametrize(
    "when", ["token_count < 5 -- short", "token_count < 5 /* short */", "/**/ token_count < 5", "token_count --\n < 5"]
)
def test_comments_are_refused_because_spark_interprets_some_of_them(when: str) -> None:
    assert refusal(when) == "the condition holds a comment; write it after a # in the YAML file instead"


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
    ],
)
def test_nondeterministic_values_are_refused(when: str, piece: str) -> None:
    assert refusal(when) == (
        f"{piece} gives another value in each run; compute a column in an earlier step, and use that"
    )


@pytest.mark.parametrize(
    ("when", "piece"),
    [
        ("published < DATE 'today'", "\"CAST('today' AS DATE)\""),
        ("published = timestamp ' Now'", "\"CAST(' Now' AS TIMESTAMP)\""),
        ("published >= 'today'", "'today'"),
        ("'NOW UTC' > published", "'NOW UTC'"),
        ("published between 'yesterday' and 'tomorrow'", "'yesterday'"),
        ("datediff('now', published) < 7", "'now'"),
        ("date_add('today', -7) < published", "'today'"),
        ("to_date('today') = published", "'today'"),
        ("cast(lower('NOW') as timestamp) = published", "\"CAST(LOWER('NOW') AS TIMESTAMP)\""),
        ("('now' || '')::timestamp = published", "\"CAST(('now' || '') AS TIMESTAMP)\""),
        ("try_cast('now' as timestamp) = published", "\"TRY_CAST('now' AS TIMESTAMP)\""),
        ("not exists(labels, l -> year('today') = 2026)", "'today'"),
    ],
)
def test_a_time_by_its_name_is_refused(when: str, piece: str) -> None:
    assert refusal(when) == f"{piece} {CLOCK}"


@pytest.mark.parametrize("operator", ["->", "->>"])
def test_other_systems_operators_for_json_are_refused(operator: str) -> None:
    assert refusal(f"text {operator} 'a' = 'x'") == (
        "\"GET_JSON_OBJECT(text, '$.a')\" is not allowed in a rule; write get_json_object(column, '$.key')"
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


def test_a_built_in_name_with_a_schema_is_refused_because_it_may_be_a_user_function() -> None:
    assert refusal("sys.upper(title) = 'X'") == (
        "'.upper()' is none of Spark's built-in functions of one row that a rule may call; "
        "did you mean 'upper'? Otherwise compute a column in an earlier step, and use that"
    )


def test_a_misspelled_function_gets_suggestions() -> None:
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
def test_any_text_gives_a_rule_or_a_rules_error(text: str) -> None:
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
def test_an_injection_is_refused_at_any_position(attack: str, context: str, space: str) -> None:
    refusal(context.format(f"{space}{attack}{space}"))


@pytest.mark.parametrize("text", ["--", "/*", "*/", ";", "rand()", "my_udf(", "(select 1)", "current_date", "$"])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_the_same_texts_in_quotes_are_accepted(text: str, quote: str) -> None:
    check(f"title = {quote}{text}{quote}")
