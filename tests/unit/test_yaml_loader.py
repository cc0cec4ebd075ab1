"""YAML files: plain values, or a ConfigError in one line, at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gliclass_spark import yaml_loader
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import ConfigError, GliclassSparkError
from gliclass_spark.labels import LabelSet

# One line of aliases of aliases for each level: the last one stands for 8**levels values, or 2**levels merged keys.
ALIASES = "z: &a0 {x: [p, q, r, s, t, u, v, w]}\n" + "".join(
    f"b{level}: &a{level} {{{', '.join(f'k{key}: *a{level - 1}' for key in range(8))}}}\n" for level in range(1, 30)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{level}: &a{level} {{<<: [*a{level - 1}, *a{level - 1}]}}\n" for level in range(1, 30)
)
NUMBERS = [
    *("0x" + "f" * 4000, "9" * 4000, "-" + "9" * 5000, "1_" * 2000 + "1", "0b" + "1" * 4000, "0" + "7" * 4000),
    *("1:" + "59:" * 2000 + "1", "1:" + "59:" * 2000 + "1.5", "1e400", ".inf", ".nan"),
]
WRONG_TAGS = ["!!bool 3", "!!timestamp x", "!!int ''", "!!int x", "!!float ''", "!!float x", "!!null x", "!!binary é"]
# What a key of a file can hold instead of its value.
VALUES = [
    *(
        *NUMBERS,
        *WRONG_TAGS,
        "&x [*x]",
        "&x {a: *x}",
        "!!binary aGVsbG8=",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!!pairs [a: 1]",
    ),
    *("2026-01-01", "2026-01-01 10:00:00", "2024-99-99", "!!timestamp 2026-01-01 10:00:00 +99:99", "0001-01-01"),
    *("'\\ud800'", '"\\ud800"', '"\\0"', '"\\u202e"', "~", "''", "'${x}'", "/", "'s3://'", "'s3a://k:s@b/x'"),
    *(
        "{1: 2}",
        "{null: 2}",
        "{? [a] : b}",
        "[[[[[]]]]]",
        "[" * 300 + "]" * 300,
        "!!python/object/apply:os.system [id]",
    ),
    *("[a, a]", "['']", "[{name: a, threshold: .nan}]", "{cron: '* * * * * *'}", "{timezone: ../../etc/passwd}"),
    *("{retries: 100000000000000000000}", "{start: 9999-12-31}", "{timeout_s: 1.0e+300}", "{after: [a.b, a.b]}"),
]
PIPELINE = {
    "name": "mail",
    "source": "{path: docs, id: id, text: body}",
    "label_set": "[a, b]",
    "tables": "lake",
    "reject": "[{reason: r, when: token_count < 3}]",
    "routes": "[]",
    "default_route": "unrouted",
    "routing": "first_match",
    "max_error_ratio": "0.5",
    "exploration": "0.1",
    "steps": "[tag, filter, route]",
    "model": "embedded",
    "airflow": "{cron: '0 2 * * *'}",
}


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "any.yaml"


def refusal(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        yaml_loader.load(path)
    message = str(refused.value)
    assert message.startswith(f"{path} is not valid YAML: ")
    assert "\n" not in message
    return message.removeprefix(f"{path} is not valid YAML: ")


@pytest.mark.parametrize("text", [ALIASES, MERGES, f"labels:\n{ALIASES}".replace("\n", "\n  ")])
def test_aliases_that_multiply_are_refused_by_their_count(path: Path, text: str) -> None:
    assert refusal(path, text).startswith("aliases repeat more than 10000 values up to line ")


@pytest.mark.parametrize("text", ["&a [*a]", "&a {b: *a}", "&a {b: [{c: *a}]}", "? &a [*a]\n: 1"])
def test_an_alias_of_what_it_is_in_is_refused(path: Path, text: str) -> None:
    assert refusal(path, text) == "the alias in line 1 is inside of what it repeats; write the value itself"


def test_aliases_and_merges_that_do_not_multiply_are_loaded(path: Path) -> None:
    path.write_text("base: &base {retries: 2, tags: [a]}\nmine: {<<: *base, retries: 3}\nsame: *base\n")
    assert yaml_loader.load(path) == {
        "base": {"retries": 2, "tags": ["a"]},
        "mine": {"retries": 3, "tags": ["a"]},
        "same": {"retries": 2, "tags": ["a"]},
    }
    labels = [{"name": f"label {number}", "threshold": 0.5} for number in range(5000)]  # no limit without aliases
    path.write_text(yaml.safe_dump(labels))
    assert yaml_loader.load(path) == labels


@pytest.mark.parametrize("number", [number for number in NUMBERS if len(number) > 40 and "." not in number])
def test_a_number_that_can_not_be_printed_is_refused_in_every_notation(path: Path, number: str) -> None:
    assert refusal(path, f"a: 1\nb: {number}") == (
        f"line 2 holds a number of {len(number)} digits; write a text in quotes"
    )


@pytest.mark.parametrize("value", ["!!bool 3", "!!timestamp x", "!!int ''", "!!float ''"])
def test_a_tag_with_a_value_of_another_type_is_refused(path: Path, value: str) -> None:
    kind = value.split()[0].removeprefix("!!")
    assert refusal(path, f"a: {value}") == f"line 1 holds a value that can't be a {kind}; correct it"


def test_half_of_a_surrogate_pair_is_refused(path: Path) -> None:
    assert refusal(path, 'a: "\\ud800"') == "line 1 holds half of a surrogate pair, which is no text; correct it"


@pytest.mark.parametrize(
    "text",
    ["&a" * 10, "*a", "- " * 3000, "a: " * 2000 + "b", "{" * 20_000, "%YAML 9.9\n---\na: b", "--- a\n--- b"],
    ids=lambda text: text[:9],
)
def test_a_text_that_is_no_yaml_is_refused(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"is not valid YAML|is nested too deeply"):
        yaml_loader.load(path)


@given(st.text(max_size=40))
def test_any_text_is_loaded_or_refused_with_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        yaml_loader.load(path)
    except ConfigError as error:
        assert str(error).startswith(str(path))  # noqa: PT017


@pytest.mark.parametrize("key", PIPELINE)
def test_a_pipeline_with_any_value_is_read_or_refused_in_one_line(path: Path, key: str) -> None:
    for value in VALUES:
        path.write_text("".join(f"{name}: {value if name == key else own}\n" for name, own in PIPELINE.items()))
        try:
            Pipeline.from_yaml(path)
        except GliclassSparkError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert len(str(error)) < 2000  # noqa: PT017


@pytest.mark.parametrize(
    ("read", "key"),
    [(LabelSet.from_yaml, "labels"), (LabelSet.from_yaml, "name"), (RetrainConfig.from_yaml, "pipeline")],
)
def test_another_file_with_any_value_is_read_or_refused_in_one_line(path: Path, read: object, key: str) -> None:
    assert callable(read)
    for value in VALUES:
        path.write_text(f"{key}: {value}\n")
        try:
            read(path)
        except GliclassSparkError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert len(str(error)) < 2000  # noqa: PT017
