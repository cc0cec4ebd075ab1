"""Probabilities of logits, and decisions by thresholds: exact values."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliclass_spark.inference.results import (
    EMPTY_TEXT,
    NULL_TEXT,
    Classification,
    Results,
    ScoredLabel,
    TextError,
    Usage,
)
from gliclass_spark.labels import Label, LabelSet

FINITE = st.floats(-1e4, 1e4, width=32)


def results(label_set: LabelSet, *rows: list[float], errors: tuple[TextError | None, ...] | None = None) -> Results:
    logits = np.array(rows, dtype=np.float32).reshape(len(rows), len(label_set))
    errors = errors or (None,) * len(rows)
    chunks = np.array([0 if error else 1 for error in errors], dtype=np.int32)
    return Results(label_set, logits, np.full(len(rows), 3, dtype=np.int32), chunks, errors)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_a_multi_label_set_uses_a_sigmoid() -> None:
    scores = results(LabelSet.of("a", "b", "c"), [0.0, logit(0.9), logit(0.1)]).scores
    np.testing.assert_allclose(scores, [[0.5, 0.9, 0.1]], rtol=1e-6)


def test_a_single_label_set_uses_a_softmax() -> None:
    scores = results(LabelSet.of("a", "b", "c", multi_label=False), [0.0, math.log(2), math.log(5)]).scores
    np.testing.assert_allclose(scores, [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-6)


def test_a_labels_bias_is_added_to_its_divided_logit() -> None:
    own = Label(name="b", temperature=4.0, bias=logit(0.9))
    label_set = LabelSet(labels=(Label(name="a"), own, Label(name="c", bias=0.0)), temperature=2.0, bias=-1.0)
    assert label_set.biases == (-1.0, pytest.approx(logit(0.9)), 0.0)
    scores = results(label_set, [2.0, 0.0, 2 * logit(0.2)]).scores
    np.testing.assert_allclose(scores, [[0.5, 0.9, 0.2]], rtol=1e-6)


def test_a_bias_shifts_the_softmax_of_a_single_label_set() -> None:
    labels = (Label(name="a", bias=math.log(3)), Label(name="b"))
    scores = results(LabelSet(labels=labels, multi_label=False), [0.0, 0.0]).scores
    np.testing.assert_allclose(scores, [[3 / 4, 1 / 4]], rtol=1e-6)


@given(st.lists(FINITE, min_size=3, max_size=3), st.booleans())
def test_scores_of_any_logits_are_probabilities_and_give_no_warning(row: list[float], multi_label: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = results(LabelSet.of("a", "b", "c", multi_label=multi_label), row).scores
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    if not multi_label:
        assert scores.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("multi_label", [True, False])
def test_a_text_that_could_not_be_scored_has_no_score_and_its_neighbours_keep_theirs(multi_label: bool) -> None:
    nan = float("nan")
    label_set = LabelSet.of("a", "b", multi_label=multi_label)
    scored = results(label_set, [0.0, 0.0], [nan, nan], errors=(None, NULL_TEXT))
    np.testing.assert_array_equal(scored.scores, [[0.5, 0.5], [nan, nan]])
    assert scored.classifications()[1] == Classification((), {}, NULL_TEXT, 3, 0)


@pytest.mark.parametrize("multi_label", [True, False])
def test_no_texts_have_no_scores(multi_label: bool) -> None:
    empty = results(LabelSet.of("a", "b", multi_label=multi_label))
    assert empty.scores.shape == (0, 2)
    assert empty.classifications() == []


def test_labels_over_their_thresholds_come_best_first() -> None:
    label_set = LabelSet(
        threshold=0.5,
        labels=(
            Label(name="low", threshold=0.2),
            Label(name="plain"),
            Label(name="high", threshold=0.95),
            Label(name="best"),
        ),
    )
    [record] = results(label_set, [logit(0.3), logit(0.6), logit(0.9), logit(0.8)]).classifications()
    assert [label.label for label in record.labels] == ["best", "plain", "low"]
    assert [label.score for label in record.labels] == pytest.approx([0.8, 0.6, 0.3], rel=1e-6)
    assert list(record.scores) == ["low", "plain", "high", "best"]
    assert list(record.scores.values()) == pytest.approx([0.3, 0.6, 0.9, 0.8], rel=1e-6)


def test_a_top_k_of_one_assigns_the_best_label_and_keeps_every_score() -> None:
    label_set = LabelSet(labels=tuple(Label(name=name) for name in "abc"), top_k=1)
    [record] = results(label_set, [logit(0.6), logit(0.9), logit(0.8)]).classifications()
    assert [label.label for label in record.labels] == ["b"]
    assert list(record.scores.values()) == pytest.approx([0.6, 0.9, 0.8], rel=1e-6)


def test_nested_scores_have_the_shape_of_the_label_tree() -> None:
    label_set = LabelSet.of({"mood": ["good", "bad"], "topic": {"web": "pages"}})
    records = results(label_set, [0.0, 0.0, 0.0], [float("nan")] * 3, errors=(None, NULL_TEXT)).classifications()
    assert records[0].nested(label_set) == {"mood": {"good": 0.5, "bad": 0.5}, "topic": {"web": {"pages": 0.5}}}
    assert records[1].nested(label_set) == {}


def test_a_score_that_equals_its_threshold_reaches_it() -> None:
    [record] = results(LabelSet.of("a", "b"), [0.0, -1e-3]).classifications()
    assert record.labels == (ScoredLabel("a", 0.5),)


def test_labels_of_equal_score_keep_the_label_sets_order() -> None:
    [record] = results(LabelSet.of("c", "a", "b", "d"), [1.0, 2.0, 1.0, 2.0]).classifications()
    assert [label.label for label in record.labels] == ["a", "d", "c", "b"]


def test_the_thresholds_zero_and_one_take_all_and_nothing() -> None:
    label_set = LabelSet(labels=(Label(name="always", threshold=0), Label(name="never", threshold=1)))
    [record] = results(label_set, [-20.0, 10.0]).classifications()
    assert [label.label for label in record.labels] == ["always"]


def test_records_carry_the_sizes_of_their_text() -> None:
    [record] = results(LabelSet.of("a"), [0.0]).classifications()
    assert (record.token_count, record.chunk_count, record.error) == (3, 1, None)


def test_usage_adds_up_field_by_field() -> None:
    total = Usage(1, 2, 30, 10, 0.5) + Usage(10, 20, 300, 100, 0.25)
    assert total == Usage(texts=11, errors=22, tokens=330, padding=110, seconds=0.75)
    assert total.padding_share == 0.25


def test_nothing_computed_has_no_padding() -> None:
    assert Usage().padding_share == 0.0


def test_every_error_says_what_is_wrong_with_the_text() -> None:
    assert (EMPTY_TEXT.code, EMPTY_TEXT.message) == ("empty_text", "the text is empty or white space")
    assert (NULL_TEXT.code, NULL_TEXT.message) == ("null_text", "the text is null, or no string")
