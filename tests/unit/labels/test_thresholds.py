"""Thresholds: labels that pass them, at most `top_k` of each text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels import Label, LabelSet
from gliclass_spark.labels.thresholds import passing_labels

LABELS = (Label(name="a", threshold=0.9), Label(name="b"), Label(name="c", threshold=0.2), Label(name="d"))


def passing_names(label_set: LabelSet, *scores: float) -> list[str]:
    [row] = passing_labels(np.array([scores], dtype=np.float32), label_set)
    return [name for name, passes in zip(label_set.names, row, strict=True) if passes]


@pytest.mark.parametrize(
    ("top_k", "expected"),
    [(None, ["b", "c", "d"]), (1, ["d"]), (2, ["b", "d"]), (3, ["b", "c", "d"]), (9, ["b", "c", "d"])],
)
def test_the_best_labels_that_reach_their_threshold_pass(top_k: int | None, expected: list[str]) -> None:
    # "a" has the best score but does not reach its own threshold.
    assert passing_names(LabelSet(labels=LABELS, top_k=top_k), 0.85, 0.6, 0.3, 0.7) == expected


def test_of_equal_scores_the_first_label_passes() -> None:
    assert passing_names(LabelSet(labels=LABELS, top_k=1), 0.1, 0.5, 0.5, 0.5) == ["b"]


def test_top_1_without_a_threshold_is_the_best_label() -> None:
    best = LabelSet(labels=tuple(Label(name=name) for name in "abc"), multi_label=False, threshold=0.0, top_k=1)
    assert passing_names(best, 0.30, 0.36, 0.34) == ["b"]


def test_nan_reaches_no_threshold() -> None:
    assert passing_names(LabelSet(labels=LABELS, top_k=1, threshold=0.0), *[float("nan")] * 4) == []


@given(
    st.lists(st.lists(st.floats(0.0, 1.0, width=32), min_size=4, max_size=4), max_size=5), st.none() | st.integers(1, 5)
)
def test_each_text_gets_the_labels_that_sorting_would_give(rows: list[list[float]], top_k: int | None) -> None:
    label_set = LabelSet(labels=LABELS, top_k=top_k)
    mask = passing_labels(np.array(rows, dtype=np.float32).reshape(-1, 4), label_set)
    for row, passes in zip(rows, mask.tolist(), strict=True):
        passing = [index for index in range(4) if row[index] >= label_set.thresholds[index]]
        assert np.flatnonzero(passes).tolist() == sorted(sorted(passing, key=lambda index: -row[index])[:top_k])


def test_top_k_changes_the_hash_only_if_it_is_set() -> None:
    assert LabelSet(labels=LABELS, top_k=None).hash == LabelSet(labels=LABELS).hash
    assert LabelSet(labels=LABELS, top_k=2).hash != LabelSet(labels=LABELS).hash


@pytest.mark.parametrize("top_k", [0, -1, True, 1.5])
def test_top_k_is_a_number_of_labels(top_k: object) -> None:
    with pytest.raises(LabelSetError, match="top_k"):
        LabelSet._validated({"labels": ["a"], "top_k": top_k}, "mail.yaml")
