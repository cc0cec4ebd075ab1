"""The exploration lane: draws that repeat, at the rate that they should have."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_spark.feedback.exploration import decide, key
from gliclass_spark.labels import Label, LabelSet
from gliclass_spark.labels.thresholds import by_thresholds

SEVERAL = LabelSet(labels=(Label(name="a", threshold=0.7), Label(name="b"), Label(name="c", threshold=0.2)))
BEST = SEVERAL.model_copy(update={"top_k": 2})
SINGLE = LabelSet.of("a", "b", "c", multi_label=False)
MANY = 20_000
# Six standard deviations of the mean of MANY draws, at most.
CLOSE = 6 * 0.5 / MANY**0.5


def keys(count: int, model_digest: str = "m") -> list[bytes]:
    return [key(b"doc-%d" % number, "content", "labels", model_digest) for number in range(count)]


def repeated(scores: list[float]) -> np.ndarray:
    return np.tile(np.array(scores, dtype=np.float32), (MANY, 1))


probability = st.floats(0.0, 1.0, width=32)


@given(st.lists(probability, min_size=3, max_size=3), st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_a_label_is_given_as_often_as_its_propensity_says(scores: list[float], share: float) -> None:
    found = decide(repeated(scores), keys(MANY), SEVERAL, share)
    np.testing.assert_allclose(found.explored.mean(), share, atol=CLOSE)
    np.testing.assert_allclose(found.chosen.mean(axis=0), found.propensities[0], atol=CLOSE)


@given(st.lists(probability, min_size=3, max_size=3), st.floats(0.0, 1.0), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_a_document_gets_no_more_labels_than_its_set_allows_and_propensities_know_it(
    scores: list[float], share: float, top_k: int
) -> None:
    label_set = SEVERAL.model_copy(update={"top_k": top_k})
    found = decide(repeated(scores), keys(MANY), label_set, share)
    assert found.chosen.sum(axis=1).max() <= top_k
    np.testing.assert_allclose(found.chosen.mean(axis=0), found.propensities[0], atol=CLOSE)


@given(st.lists(probability, min_size=3, max_size=3))
def test_the_best_of_what_is_drawn_is_as_probable_as_counting_every_draw_says(scores: list[float]) -> None:
    best_first = sorted(range(3), key=lambda place: -scores[place])
    expected = [0.0, 0.0, 0.0]
    for drawn in itertools.product((False, True), repeat=3):
        odds = math.prod(score if taken else 1 - score for score, taken in zip(scores, drawn, strict=True))
        for place in [place for place in best_first if drawn[place]][:2]:
            expected[place] += odds
    found = decide(np.array([scores], dtype=np.float32), keys(1), BEST, 1.0)
    np.testing.assert_allclose(found.propensities[0], expected, atol=1e-12)


@given(st.lists(probability, min_size=3, max_size=3), st.floats(0.0, 1.0))
def test_propensities_are_those_of_the_whole_policy(scores: list[float], share: float) -> None:
    found = decide(np.array([scores], dtype=np.float32), keys(1), SEVERAL, share)
    reached = [score >= threshold for score, threshold in zip(scores, SEVERAL.thresholds, strict=True)]
    expected = [(1 - share) * passed + share * score for passed, score in zip(reached, scores, strict=True)]
    assert found.propensities[0].tolist() == expected
    assert all(0.0 <= each <= 1.0 for each in expected)


@given(st.floats(0.0, 1.0), st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3))
@settings(max_examples=25, deadline=None)
def test_a_single_label_set_draws_one_label_from_the_softmax(share: float, odds: list[float]) -> None:
    scores = [each / sum(odds) for each in odds]
    found = decide(repeated(scores), keys(MANY), SINGLE, share)
    assert set(found.chosen[found.explored].sum(axis=1).tolist()) <= {1}
    np.testing.assert_allclose(found.chosen.mean(axis=0), found.propensities[0], atol=CLOSE)


@given(st.permutations(range(50)), st.integers(1, 49))
def test_draws_know_neither_order_nor_batch(order: list[int], cut: int) -> None:
    scores = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    known = keys(50)
    whole = decide(scores, known, SEVERAL, 0.5)
    for part in (order[:cut], order[cut:]):
        again = decide(scores[part], [known[place] for place in part], SEVERAL, 0.5)
        np.testing.assert_array_equal(again.chosen, whole.chosen[part])
        np.testing.assert_array_equal(again.explored, whole.explored[part])


def test_labels_are_drawn_independently_of_each_other() -> None:
    found = decide(repeated([0.5, 0.5, 0.5]), keys(MANY), SEVERAL, 1.0)
    correlation = np.corrcoef(found.chosen.T.astype(float))
    np.testing.assert_allclose(correlation, np.eye(3), atol=6 / MANY**0.5)


def test_without_a_share_thresholds_decide_and_with_the_whole_share_draws_do() -> None:
    scores = repeated([0.6, 0.6, 0.1])
    none = decide(scores, keys(MANY), SEVERAL, 0.0)
    np.testing.assert_array_equal(none.chosen, by_thresholds(scores, SEVERAL))
    assert not none.explored.any()
    assert decide(scores, keys(MANY), SEVERAL, 1.0).explored.all()


def test_a_larger_share_keeps_the_documents_of_a_smaller_one() -> None:
    scores = repeated([0.6, 0.6, 0.1])
    small, large = (decide(scores, keys(MANY), SEVERAL, share) for share in (0.1, 0.3))
    assert large.explored[small.explored].all()
    np.testing.assert_array_equal(large.chosen[small.explored], small.chosen[small.explored])


def test_another_model_draws_anew() -> None:
    scores = repeated([0.5, 0.5, 0.5])
    one, other = (decide(scores, keys(MANY, digest), SEVERAL, 1.0) for digest in ("m", "n"))
    assert (one.chosen == other.chosen).mean() == pytest.approx(0.5, abs=CLOSE)


@pytest.mark.parametrize("label_set", [SEVERAL, BEST, SINGLE], ids=["several", "best", "single"])
def test_what_is_certain_is_never_left_to_chance(label_set: LabelSet) -> None:
    found = decide(repeated([0.0, 1.0, 0.0]), keys(MANY), label_set, 1.0)
    assert found.chosen.all(axis=0).tolist() == [False, True, False]
    assert found.chosen.any(axis=0).tolist() == [False, True, False]
