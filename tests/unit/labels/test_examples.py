"""Examples in a label set: what they may say, and that a set without them is the question it was before."""

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


def test_the_hashes_of_label_sets_that_use_none_of_the_new_fields_are_what_they_were() -> None:
    found = LabelSet.from_yaml(ROOT / "conf/labels/software.yaml")
    assert found.hash == "4b679779fbc298030e4dee07029c3c2b4d56771bbcbf507d4fd466b4d7266077"
    assert LabelSet.of("complaint", "invoice", "spam").canonical_json == (
        '{"labels":[{"name":"complaint"},{"name":"invoice"},{"name":"spam"}],'
        '"multi_label":true,"name":"labels","threshold":0.5}'
    )
    unset = {"examples": [], "long_texts": None, "labels_per_pass": None}
    assert LabelSet.model_validate({**MAIL, **unset}).hash == LabelSet.model_validate(MAIL).hash


@pytest.mark.parametrize("change", [{"examples": [PARCEL]}, {"long_texts": "mean"}, {"labels_per_pass": 1}])
def test_what_is_asked_differently_is_another_question(change: dict[str, Any]) -> None:
    changed = LabelSet.model_validate({**MAIL, **change})
    assert changed.hash != LabelSet.model_validate(MAIL).hash
    assert LabelSet.from_json(changed.canonical_json) == changed


def test_a_file_says_examples_and_how_long_texts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mail.yaml"
    path.write_text(
        "long_texts: mean\nlabels_per_pass: 20\nlabels: [complaint, shipping, spam]\n"
        "examples:\n  - {text: 'Where is my parcel?', labels: [complaint, shipping]}\n"
    )
    found = LabelSet.from_yaml(path)
    assert found.examples == (PARCEL,)
    assert (found.long_texts, found.labels_per_pass) == ("mean", 20)
    path.write_text(found.to_yaml())
    assert LabelSet.from_yaml(path) == found


def test_an_example_may_have_line_breaks_and_as_many_characters_as_are_read() -> None:
    for text in ("one\ntwo\r\n\tthree", "x" * MAX_EXAMPLE_CHARS):
        found = LabelSet.model_validate({**MAIL, "examples": [{"text": text, "labels": ["spam"]}]})
        assert found.examples[0].text == text


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
def test_an_example_that_can_not_be_read_is_refused_with_the_mend(example: dict[str, Any], expected: str) -> None:
    assert refusal([example]) == expected


def test_a_text_that_is_not_valid_unicode_is_no_example() -> None:
    expected = r"mail.yaml: examples.0.text: '\ud800' holds the control character '\ud800'; remove it"
    assert refusal([{"text": "\ud800", "labels": ["spam"]}]) == expected


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "many"])
def test_labels_per_pass_is_a_number_of_labels(count: Any) -> None:
    with pytest.raises(LabelSetError, match="labels_per_pass"):
        LabelSet._validated({**MAIL, "labels_per_pass": count}, "mail.yaml")


def test_long_texts_are_window_aggregation_mean_unless_the_set_says_otherwise() -> None:
    assert LabelSet.of("spam").window_aggregation == "mean"
    for rule in ("max", "mean", "token_mean", "cut"):
        assert LabelSet.model_validate({**MAIL, "long_texts": rule}).window_aggregation == rule
    said = "long_texts: Input should be 'max', 'mean', 'token_mean' or 'cut', found 'median'"
    with pytest.raises(LabelSetError, match=said):
        LabelSet._validated({**MAIL, "long_texts": "median"}, "mail.yaml")


def test_asking_changes_the_prompt_or_the_examples_and_keeps_the_rest() -> None:
    mail = LabelSet.model_validate({**MAIL, "threshold": 0.3, "prompt": "Sort the mail", "examples": [PARCEL]})
    assert mail.replace() == mail
    other = mail.replace(prompt="Sort it")
    assert (other.prompt, other.examples, other.threshold) == ("Sort it", (PARCEL,), 0.3)
    bare = mail.replace(examples=[])
    assert (bare.prompt, bare.examples) == ("Sort the mail", ())
    assert mail.examples == (PARCEL,)


def test_a_prompt_that_is_not_valid_unicode_is_refused() -> None:
    with pytest.raises(LabelSetError) as caught:
        LabelSet.model_validate(MAIL).replace(prompt="Sort \ud800")
    assert str(caught.value) == (
        r"LabelSet.replace: prompt: 'Sort \ud800' is not valid Unicode; decode it properly, or reword it"
    )


def test_what_was_worked_out_for_a_label_set_is_not_carried_over_to_another() -> None:
    mail = LabelSet.model_validate(MAIL)
    assert mail.hash == LabelSet.model_validate(MAIL).hash
    expected = LabelSet.model_validate({**MAIL, "prompt": "Sort it"})
    for other in (mail.replace(prompt="Sort it"), mail.model_copy(update={"prompt": "Sort it"})):
        assert (other.canonical_json, other.hash) == (expected.canonical_json, expected.hash)
    assert mail.hash == LabelSet.model_validate(MAIL).hash


def test_asking_with_an_example_that_the_set_does_not_know_is_refused() -> None:
    with pytest.raises(LabelSetError, match="names the label 'shipping', which the set does not have"):
        LabelSet.of("complaint", "spam").replace(examples=[PARCEL])
