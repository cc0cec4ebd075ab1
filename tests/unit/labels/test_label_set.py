"""The label set: one spelling and one hash for one question; a set that can't be asked is refused."""

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
from gliclass_spark.labels import MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, Label, LabelSet

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


def write(folder: Path, text: str, name: str = "software.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(LabelSetError) as caught:
        LabelSet.from_yaml(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names_texts_and_thresholds_keep_the_order_of_the_labels() -> None:
    label_set = LabelSet(
        threshold=0.4,
        labels=(Label(name="web", description="browsers and pages"), Label(name="art", threshold=0.7)),
    )
    assert len(label_set) == 2
    assert label_set.names == ("web", "art")
    assert label_set.texts == ("web: browsers and pages", "art")
    assert label_set.thresholds == (0.4, 0.7)


def test_a_label_set_can_be_made_of_names_and_labels() -> None:
    label_set = LabelSet.of("web", Label(name="art"), name="topics", multi_label=False)
    assert label_set.names == ("web", "art")
    assert (label_set.name, label_set.multi_label, label_set.threshold) == ("topics", False, 0.5)


def test_coerce_keeps_a_label_set_and_reads_a_list_of_names() -> None:
    label_set = LabelSet.of("web")
    assert LabelSet.coerce(label_set) is label_set
    assert LabelSet.coerce(["web"]) == label_set


def test_coerce_refuses_one_text_instead_of_reading_its_letters() -> None:
    with pytest.raises(LabelSetError) as caught:
        LabelSet.coerce("web")
    assert str(caught.value) == "labels must be a list of names or a LabelSet, found the text 'web'"


def test_the_canonical_json_is_sorted_dense_and_leaves_absent_values_out() -> None:
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


def test_another_order_of_labels_is_another_question() -> None:
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
    ],
)
def test_every_part_of_the_question_counts_in_the_hash(change: dict[str, Any]) -> None:
    plain = {"labels": ("web", "art")}
    assert LabelSet.model_validate({**plain, **change}).hash != LabelSet.model_validate(plain).hash


def test_a_yaml_file_without_a_name_is_called_like_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "labels:\n  - web\n  - {name: art, threshold: 0.7}\n")
    assert LabelSet.from_yaml(path) == LabelSet.of("web", Label(name="art", threshold=0.7), name="software")


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\x00b"])
def test_a_label_of_more_than_one_line_is_refused(name: str) -> None:
    with pytest.raises(LabelSetError) as caught:
        LabelSet.of(name)
    assert str(caught.value) == (
        f"LabelSet.of: labels.0.name: {name!r} holds a line break or a control character; write it as one line"
    )


def test_white_space_around_a_name_is_no_part_of_it_and_an_empty_name_is_refused() -> None:
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


def test_a_label_twice_is_refused_by_name() -> None:
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


def test_a_threshold_out_of_range_is_told_with_file_key_and_value(tmp_path: Path) -> None:
    path = write(tmp_path, "labels: [{name: web, threshold: 1.5}]")
    assert refusal(path) == f"{path}: labels.0.threshold: Input should be less than or equal to 1, found 1.5"


def test_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, "labels: [{name: web, treshold: 0.5}]")
    assert refusal(path) == f"{path}: unknown key 'labels.0.treshold'; remove it, or check its spelling"


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "name: software")
    assert refusal(path) == f"{path}: 'labels' is missing; add it"


def test_a_key_twice_is_refused_where_yaml_would_keep_the_last(tmp_path: Path) -> None:
    path = write(tmp_path, "threshold: 0.1\nlabels: [web]\nthreshold: 0.9\n")
    assert refusal(path) == (
        f"label set {path} is not valid YAML: key 'threshold' appears twice, again in line 3; remove one"
    )


def test_a_key_twice_inside_a_label_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "labels:\n  - name: web\n    name: art\n")
    assert "key 'name' appears twice, again in line 3; remove one" in refusal(path)


def test_a_merged_mapping_may_say_a_key_again(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "labels:\n  - &first {name: web, threshold: 0.7}\n  - &second {<<: *first, name: art}\n"
        "  - {<<: *second, name: law}\n",
    )
    assert LabelSet.from_yaml(path).thresholds == (0.7, 0.7, 0.7)


def test_a_missing_file_is_told_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert refusal(path) == f"label set {path} does not exist; check the path"


def test_a_folder_instead_of_a_file_is_told(tmp_path: Path) -> None:
    assert (
        refusal(tmp_path) == f"label set {tmp_path} can't be read (Is a directory); check the path and its permissions"
    )


@pytest.mark.parametrize("text", ["labels: [web", "labels: !!python/object/apply:os.system [ls]", "a: 2024-99-99"])
def test_broken_or_unsafe_yaml_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    assert refusal(path).startswith(f"label set {path} is not valid YAML: ")


def test_bytes_that_are_no_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("labels: [café]".encode("latin-1"))
    assert refusal(path).startswith(f"label set {path} is not valid YAML: 'utf-8' codec can't decode")


def test_yaml_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "[" * 5000)
    assert refusal(path) == f"label set {path} is nested too deeply; flatten it"


def test_a_label_set_can_not_be_changed() -> None:
    label_set = LabelSet.of("web")
    with pytest.raises(ValidationError, match="frozen"):
        label_set.name = "other"
