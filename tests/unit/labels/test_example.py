"""Examples: valid and invalid texts and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gliclass_spark import Example, LabelSet
from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels import MAX_EXAMPLE_CHARS

ROOT = Path(__file__).parents[3]
PARCEL = Example(text="Where is my parcel?", labels=("complaint", "shipping"))
MAIL: dict[str, Any] = {"labels": ["complaint", "shipping", "spam"]}


def refusal(examples: Any) -> str:
    with pytest.raises(LabelSetError) as caught:
        LabelSet._validated({**MAIL, "examples": examples}, "mail.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_example_may_have_line_breaks_and_the_maximum_length() -> None:
    for text in ("one\ntwo\r\n\tthree", "x" * MAX_EXAMPLE_CHARS):
        label_set = LabelSet.model_validate({**MAIL, "examples": [{"text": text, "labels": ["spam"]}]})
        assert label_set.examples[0].text == text


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (
            {"text": "Win!", "labels": ["Spam"]},
            "mail.yaml: examples: example 0 names the label 'Spam', which the set does not have; "
            "add it to the labels, correct it, or remove the example",
        ),
        (
            {"text": " \n", "labels": ["spam"]},
            "mail.yaml: examples.0.text: is empty; give the example a text or remove it",
        ),
        (
            {"text": "Win!", "labels": []},
            "mail.yaml: examples.0.labels: holds no label; name at least one that the text has, or remove the example",
        ),
        (
            {"text": "Win!", "labels": ["spam", " spam"]},
            "mail.yaml: examples.0.labels: label 'spam' appears twice; remove one",
        ),
        (
            {"text": "Win\x00!", "labels": ["spam"]},
            "mail.yaml: examples.0.text: 'Win\\x00!' holds the control character '\\x00'; remove it",
        ),
        (
            {"text": "x" * (MAX_EXAMPLE_CHARS + 1), "labels": ["spam"]},
            f"mail.yaml: examples.0.text: {'x' * 40!r}... has 10001 characters, at most 10000 are read; shorten it",
        ),
        ({"text": "Win!"}, "mail.yaml: 'examples.0.labels' is missing; add it"),
    ],
)
def test_an_invalid_example_is_refused_with_the_fix(example: dict[str, Any], expected: str) -> None:
    assert refusal([example]) == expected


def test_a_text_that_is_not_valid_unicode_is_refused() -> None:
    expected = r"mail.yaml: examples.0.text: '\ud800' holds the control character '\ud800'; remove it"
    assert refusal([{"text": "\ud800", "labels": ["spam"]}]) == expected
