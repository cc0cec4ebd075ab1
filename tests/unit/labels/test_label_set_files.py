"""Label set files: what `LabelSet.from_yaml` reads, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from gliclass_spark import Example, Label, LabelSet
from gliclass_spark.errors import LabelSetError


def write(folder: Path, text: str, name: str = "software.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(LabelSetError) as caught:
        LabelSet.from_yaml(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_label_set_without_a_name_is_named_after_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "labels:\n  - web\n  - {name: art, threshold: 0.7}\n")
    assert LabelSet.from_yaml(path) == LabelSet.of("web", Label(name="art", threshold=0.7), name="software")


def test_a_threshold_out_of_range_is_reported_with_file_key_and_value(tmp_path: Path) -> None:
    path = write(tmp_path, "labels: [{name: web, threshold: 1.5}]")
    assert refusal(path) == f"{path}: labels.0.threshold: Input should be less than or equal to 1, found 1.5"


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "labels: [{name: web, treshold: 0.5}]")
    assert refusal(path) == f"{path}: unknown key 'labels.0.treshold'; remove it, or check its spelling"


def test_a_missing_key_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path, "name: software")
    assert refusal(path) == f"{path}: 'labels' is missing; add it"


def test_a_duplicate_key_is_refused_where_yaml_would_keep_the_last(tmp_path: Path) -> None:
    path = write(tmp_path, "threshold: 0.1\nlabels: [web]\nthreshold: 0.9\n")
    assert refusal(path) == (
        f"label set {path} is not valid YAML: key 'threshold' appears twice, again in line 3; remove one"
    )


def test_a_duplicate_key_of_a_label_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "labels:\n  - name: web\n    name: art\n")
    assert "key 'name' appears twice, again in line 3; remove one" in refusal(path)


def test_a_merged_mapping_may_override_a_key(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "labels:\n  - &first {name: web, threshold: 0.7}\n  - &second {<<: *first, name: art}\n"
        "  - {<<: *second, name: law}\n",
    )
    assert LabelSet.from_yaml(path).thresholds == (0.7, 0.7, 0.7)


def test_a_missing_label_set_file_is_reported_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert refusal(path) == f"label set {path} does not exist; check the path"


def test_a_folder_instead_of_a_file_is_reported(tmp_path: Path) -> None:
    assert (
        refusal(tmp_path) == f"label set {tmp_path} can't be read (Is a directory); check the path and its permissions"
    )


@pytest.mark.parametrize("text", ["labels: [web", "labels: !!python/object/apply:os.system [ls]", "a: 2024-99-99"])
def test_broken_or_unsafe_yaml_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    assert refusal(path).startswith(f"label set {path} is not valid YAML: ")


def test_invalid_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("labels: [café]".encode("latin-1"))
    assert refusal(path).startswith(f"label set {path} is not valid YAML: 'utf-8' codec can't decode")


def test_yaml_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "[" * 5000)
    assert refusal(path) == f"label set {path} is nested too deeply; flatten it"


def test_a_file_with_examples_and_long_texts_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "mail.yaml"
    path.write_text(
        "long_texts: mean\nlabels_per_pass: 20\nlabels: [complaint, shipping, spam]\n"
        "examples:\n  - {text: 'Where is my parcel?', labels: [complaint, shipping]}\n"
    )
    label_set = LabelSet.from_yaml(path)
    assert label_set.examples == (Example(text="Where is my parcel?", labels=("complaint", "shipping")),)
    assert (label_set.long_texts, label_set.labels_per_pass) == ("mean", 20)
    path.write_text(label_set.to_yaml())
    assert LabelSet.from_yaml(path) == label_set
