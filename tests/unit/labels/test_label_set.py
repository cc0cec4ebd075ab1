"""Label sets: canonical JSON and hash, invalid sets, changed copies."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels import MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, Example, Label, LabelSet

ROOT = Path(__file__).parents[3]
PARCEL = Example(text="Where is my parcel?", labels=("complaint", "shipping"))
MAIL: dict[str, Any] = {"labels": ["complaint", "shipping", "spam"]}

TEXTS = (
    st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)
    .map(str.strip)
    .filter(lambda text: text.isprintable() and bool(text))
)
PROBABILITIES = st.floats(0.0, 1.0)
LABELS = st.builds(
    Label,
    name=TEXTS,
    description=st.none() | TEXTS,
    threshold=st.none() | PROBABILITIES,
    group=st.none() | TEXTS,
)
LABEL_SETS = st.builds(
    LabelSet,
    name=TEXTS,
    multi_label=st.booleans(),
    threshold=PROBABILITIES,
    prompt=st.none() | TEXTS,
    labels=st.lists(LABELS, min_size=1, max_size=5, unique_by=lambda label: label.name).map(tuple),
)


def test_names_texts_and_thresholds_keep_the_order_of_the_labels() -> None:
    label_set = LabelSet(
        threshold=0.4,
        labels=(Label(name="web", description="browsers and pages"), Label(name="art", threshold=0.7)),
    )
    assert len(label_set) == 2
    assert label_set.names == ("web", "art")
    assert label_set.texts == ("web: browsers and pages", "art")
    assert label_set.thresholds == (0.4, 0.7)


def test_a_label_set_is_created_from_names_and_labels() -> None:
    label_set = LabelSet.of("web", Label(name="art"), name="topics", multi_label=False)
    assert label_set.names == ("web", "art")
    assert (label_set.name, label_set.multi_label, label_set.threshold) == ("topics", False, 0.5)


def test_coerce_keeps_a_label_set_and_reads_a_list_of_names() -> None:
    label_set = LabelSet.of("web")
    assert LabelSet.coerce(label_set) is label_set
    assert LabelSet.coerce(["web"]) == label_set


def test_coerce_refuses_a_string_instead_of_splitting_it_into_letters() -> None:
    with pytest.raises(LabelSetError) as caught:
        LabelSet.coerce("web")
    assert (
        str(caught.value)
        == "labels must be a list of names or a LabelSet, found the text 'web'; for one label write ['web']"
    )


def test_the_canonical_json_is_sorted_compact_and_without_absent_values() -> None:
    label_set = LabelSet.of(Label(name="café", threshold=0.25), "art")
    expected = (
        '{"labels":[{"name":"café","threshold":0.25},{"name":"art"}],'
        '"multi_label":true,"name":"labels","threshold":0.5}'
    )
    assert label_set.canonical_json == expected
    assert label_set.hash == hashlib.sha256(expected.encode("utf-8")).hexdigest()


@given(LABEL_SETS)
def test_canonical_json_round_trips_to_the_same_label_set_and_hash(label_set: LabelSet) -> None:
    again = LabelSet.from_json(label_set.canonical_json)
    assert again == label_set
    assert again.canonical_json == label_set.canonical_json
    assert again.hash == label_set.hash


@given(st.data(), LABEL_SETS)
def test_the_hash_does_not_depend_on_the_order_of_yaml_keys(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, label_set: LabelSet
) -> None:
    document: dict[str, Any] = label_set.model_dump(mode="json")
    keys = data.draw(st.permutations(sorted(document)))
    document = {key: document[key] for key in keys}
    document["labels"] = [dict(sorted(label.items(), reverse=True)) for label in document["labels"]]
    path = tmp_path_factory.mktemp("labels") / "any.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    assert LabelSet.from_yaml(path).hash == label_set.hash


def test_the_order_of_labels_changes_the_hash() -> None:
    assert LabelSet.of("web", "art").hash != LabelSet.of("art", "web").hash


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"multi_label": False},
        {"threshold": 0.6},
        {"prompt": "Sort the mail"},
        {"labels": ("web", Label(name="art", description="paintings"))},
        {"labels": ("web", Label(name="art", threshold=0.5))},
        {"temperature": 2.0},
        {"bias": 0.0},
        {"labels": ("web", Label(name="art", bias=-1.5))},
    ],
)
def test_every_field_changes_the_hash(change: dict[str, Any]) -> None:
    plain = {"labels": ("web", "art")}
    assert LabelSet.model_validate({**plain, **change}).hash != LabelSet.model_validate(plain).hash


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\x00b"])
def test_a_label_of_more_than_one_line_is_refused(name: str) -> None:
    with pytest.raises(LabelSetError) as caught:
        LabelSet.of(name)
    assert str(caught.value) == (
        f"LabelSet.of: labels.0.name: {name!r} holds a line break or a control character; write it as one line"
    )


def test_white_space_around_a_name_is_stripped_and_an_empty_name_is_refused() -> None:
    assert LabelSet.of(" web ").names == ("web",)
    with pytest.raises(LabelSetError) as caught:
        LabelSet.of("  ")
    assert str(caught.value) == "LabelSet.of: labels.0.name: is empty; give it a text or remove it"


def test_the_limits_of_length_are_exact() -> None:
    name, description = "n" * MAX_NAME_CHARS, "d" * MAX_DESCRIPTION_CHARS
    assert Label(name=name, description=description).text == f"{name}: {description}"
    with pytest.raises(LabelSetError) as caught:
        LabelSet.of(name + "n")
    assert str(caught.value) == (
        f"LabelSet.of: labels.0: name {'n' * 40!r}... has 201 characters, at most 200 are read; shorten it"
    )
    with pytest.raises(ValidationError, match="has 1001 characters, at most 1000 are read; shorten it"):
        Label(name="n", description=description + "d")


def test_a_duplicate_label_is_refused() -> None:
    with pytest.raises(LabelSetError) as caught:
        LabelSet.of("web", "art", " web")
    assert str(caught.value) == "LabelSet.of: labels: label 'web' appears twice; remove one"


def test_labels_are_case_sensitive() -> None:
    assert LabelSet.of("web", "Web").names == ("web", "Web")


def test_a_set_without_labels_is_refused() -> None:
    with pytest.raises(LabelSetError) as caught:
        LabelSet.of()
    assert str(caught.value) == "LabelSet.of: labels: holds no label; name at least one"


@given(st.floats().filter(lambda value: not 0.0 <= value <= 1.0))
def test_a_threshold_outside_zero_and_one_is_refused(threshold: float) -> None:
    for document in (
        {"labels": ["web"], "threshold": threshold},
        {"labels": [{"name": "web", "threshold": threshold}]},
    ):
        with pytest.raises(ValidationError, match="threshold"):
            LabelSet.model_validate(document)


@given(PROBABILITIES)
def test_every_threshold_from_zero_to_one_is_accepted(threshold: float) -> None:
    assert LabelSet(labels=(Label(name="web", threshold=threshold),)).thresholds == (threshold,)


def test_a_set_without_optional_fields_keeps_the_hash_of_earlier_versions() -> None:
    label_set = LabelSet.from_yaml(ROOT / "conf/labels/software.yaml")
    assert label_set.hash == "4b679779fbc298030e4dee07029c3c2b4d56771bbcbf507d4fd466b4d7266077"
    assert LabelSet.of("complaint", "invoice", "spam").canonical_json == (
        '{"labels":[{"name":"complaint"},{"name":"invoice"},{"name":"spam"}],'
        '"multi_label":true,"name":"labels","threshold":0.5}'
    )
    unset = {"examples": [], "long_texts": None, "labels_per_pass": None}
    assert LabelSet.model_validate({**MAIL, **unset}).hash == LabelSet.model_validate(MAIL).hash


def test_a_calibrated_set_without_biases_keeps_the_hash_of_earlier_versions() -> None:
    labels = (Label(name="spam", temperature=4.0, threshold=0.3), Label(name="invoice"))
    calibrated = LabelSet(labels=labels, temperature=2.0, threshold=0.4, top_k=1)
    assert calibrated.hash == "f46a0651bfbf52f25b2aea50c30488e7d2690cbd3f421b556c9c2b63736b6218"


def test_a_bias_is_in_the_file_the_json_and_the_copy(tmp_path: Path) -> None:
    path = tmp_path / "mail.yaml"
    path.write_text("bias: -0.5\nlabels: [{name: spam, bias: 1.25}, invoice]\n", encoding="utf-8")
    label_set = LabelSet.from_yaml(path)
    assert label_set.biases == (1.25, -0.5)
    assert LabelSet.from_json(label_set.canonical_json) == label_set
    again = tmp_path / "again.yaml"
    again.write_text(label_set.to_yaml(), encoding="utf-8")
    assert LabelSet.from_yaml(again).hash == label_set.hash
    assert label_set.replace(prompt="Sort: ").biases == (1.25, -0.5)


@pytest.mark.parametrize("bias", ["Infinity", "-Infinity", "NaN", '"2"', "true"])
def test_a_bias_is_a_finite_number(bias: str) -> None:
    with pytest.raises(LabelSetError, match="bias"):
        LabelSet.from_json(f'{{"labels": [{{"name": "spam", "bias": {bias}}}, {{"name": "invoice"}}]}}')


@pytest.mark.parametrize("change", [{"examples": [PARCEL]}, {"long_texts": "mean"}, {"labels_per_pass": 1}])
def test_examples_long_texts_and_labels_per_pass_change_the_hash(change: dict[str, Any]) -> None:
    changed = LabelSet.model_validate({**MAIL, **change})
    assert changed.hash != LabelSet.model_validate(MAIL).hash
    assert LabelSet.from_json(changed.canonical_json) == changed


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "many"])
def test_labels_per_pass_is_a_number_of_labels(count: Any) -> None:
    with pytest.raises(LabelSetError, match="labels_per_pass"):
        LabelSet._validated({**MAIL, "labels_per_pass": count}, "mail.yaml")


def test_windows_are_aggregated_by_their_mean_by_default() -> None:
    assert LabelSet.of("spam").window_aggregation == "mean"
    for rule in ("max", "mean", "token_mean", "cut"):
        assert LabelSet.model_validate({**MAIL, "long_texts": rule}).window_aggregation == rule
    message = "long_texts: Input should be 'max', 'mean', 'token_mean' or 'cut', found 'median'"
    with pytest.raises(LabelSetError, match=message):
        LabelSet._validated({**MAIL, "long_texts": "median"}, "mail.yaml")


def test_replace_changes_the_prompt_or_the_examples_and_keeps_the_rest() -> None:
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


def test_a_changed_copy_does_not_keep_the_cached_hash() -> None:
    mail = LabelSet.model_validate(MAIL)
    assert mail.hash == LabelSet.model_validate(MAIL).hash
    expected = LabelSet.model_validate({**MAIL, "prompt": "Sort it"})
    for other in (mail.replace(prompt="Sort it"), mail.model_copy(update={"prompt": "Sort it"})):
        assert (other.canonical_json, other.hash) == (expected.canonical_json, expected.hash)
    assert mail.hash == LabelSet.model_validate(MAIL).hash


def test_replace_refuses_an_example_with_an_unknown_label() -> None:
    with pytest.raises(LabelSetError, match="names the label 'shipping', which the set does not have"):
        LabelSet.of("complaint", "spam").replace(examples=[PARCEL])


def test_a_label_set_is_immutable() -> None:
    label_set = LabelSet.of("web")
    with pytest.raises(ValidationError, match="frozen"):
        label_set.name = "other"
