"""Exploration policy: sampling is reproducible, and its rates match the propensities."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_spark.feedback.exploration import PROBABILITY_FLOOR, decide, sampling_key, sampling_probabilities
from gliclass_spark.labels import Label, LabelSet
from gliclass_spark.labels.thresholds import passing_labels

SEVERAL = LabelSet(labels=(Label(name="a", threshold=0.7), Label(name="b"), Label(name="c", threshold=0.2)))
BEST = SEVERAL.model_copy(update={"top_k": 2})
SINGLE = LabelSet.of("a", "b", "c", multi_label=False)
MANY = 20_000
# Six standard deviations of the mean of MANY samples, at most.
CLOSE = 6 * 0.5 / MANY**0.5


def keys(count: int, model_digest: str = "m") -> list[bytes]:
    return [sampling_key(b"doc-%d" % number, "content", "labels", model_digest) for number in range(count)]


def repeated(scores: list[float]) -> np.ndarray:
    return np.tile(np.array(scores, dtype=np.float32), (MANY, 1))


probability = st.floats(0.0, 1.0, width=32)


@given(st.lists(probability, min_size=3, max_size=3), st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_labels_are_chosen_at_the_rate_of_their_propensity(scores: list[float], share: float) -> None:
    decisions = decide(repeated(scores), keys(MANY), SEVERAL, share)
    np.testing.assert_allclose(decisions.explored.mean(), share, atol=CLOSE)
    np.testing.assert_allclose(decisions.chosen.mean(axis=0), decisions.propensities[0], atol=CLOSE)


@given(st.lists(probability, min_size=3, max_size=3), st.floats(0.0, 1.0), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_a_document_gets_at_most_top_k_labels_and_propensities_account_for_it(
    scores: list[float], share: float, top_k: int
) -> None:
    label_set = SEVERAL.model_copy(update={"top_k": top_k})
    decisions = decide(repeated(scores), keys(MANY), label_set, share)
    assert decisions.chosen.sum(axis=1).max() <= top_k
    np.testing.assert_allclose(decisions.chosen.mean(axis=0), decisions.propensities[0], atol=CLOSE)


@given(st.lists(probability, min_size=3, max_size=3))
def test_top_k_propensities_match_an_enumeration_of_all_samples(scores: list[float]) -> None:
    rates = sampling_probabilities(np.array([scores], dtype=np.float32), BEST)[0].tolist()
    best_first = sorted(range(3), key=lambda label: -scores[label])
    expected = [0.0, 0.0, 0.0]
    for sampled in itertools.product((False, True), repeat=3):
        chance = math.prod(rate if taken else 1 - rate for rate, taken in zip(rates, sampled, strict=True))
        for label in [label for label in best_first if sampled[label]][:2]:
            expected[label] += chance
    decisions = decide(np.array([scores], dtype=np.float32), keys(1), BEST, 1.0)
    np.testing.assert_allclose(decisions.propensities[0], expected, atol=1e-12)


@given(st.lists(probability, min_size=3, max_size=3), st.floats(0.0, 1.0))
def test_propensities_are_those_of_the_mixed_policy(scores: list[float], share: float) -> None:
    array = np.array([scores], dtype=np.float32)
    decisions = decide(array, keys(1), SEVERAL, share)
    reached = [score >= threshold for score, threshold in zip(scores, SEVERAL.thresholds, strict=True)]
    rates = sampling_probabilities(array, SEVERAL)[0]
    expected = [(1 - share) * passed + share * rate for passed, rate in zip(reached, rates, strict=True)]
    assert decisions.propensities[0].tolist() == expected
    assert all(0.0 <= propensity <= 1.0 for propensity in expected)


def test_labels_are_sampled_near_their_threshold_and_each_with_a_least_probability() -> None:
    scores = np.array([[0.7, 0.5, 0.2], [0.0, 0.1, 1.0]], dtype=np.float32)
    rates = sampling_probabilities(scores, SEVERAL)  # thresholds .7, .5, .2
    np.testing.assert_allclose(rates[0], 0.5, atol=1e-6)
    assert rates[1].tolist() == pytest.approx([PROBABILITY_FLOOR, 0.25, 1 - PROBABILITY_FLOOR])  # sqrt(1 / 9) = 1 / 3
    single = sampling_probabilities(np.array([[0.0, 0.8, 0.2]], dtype=np.float32), SINGLE)[0]
    assert single.sum() == pytest.approx(1.0)
    assert single[0] == pytest.approx(PROBABILITY_FLOOR / 3)
    assert single[1] < 0.8


@given(st.lists(probability, min_size=3, max_size=3), st.floats(0.01, 1.0), st.sampled_from([SEVERAL, SINGLE]))
def test_no_action_of_an_explored_label_has_a_weight_beyond_the_floor(
    scores: list[float], share: float, label_set: LabelSet
) -> None:
    array = np.array([scores], dtype=np.float32) + np.float32(1e-3)
    propensities = decide(array, keys(1), label_set, share).propensities
    floor = PROBABILITY_FLOOR if label_set.multi_label else PROBABILITY_FLOOR / 3
    assert (propensities >= share * floor * (1 - 1e-9)).all()


@given(st.floats(0.0, 1.0), st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3))
@settings(max_examples=25, deadline=None)
def test_a_single_label_set_samples_one_label_from_the_softmax(share: float, weights: list[float]) -> None:
    scores = [weight / sum(weights) for weight in weights]
    decisions = decide(repeated(scores), keys(MANY), SINGLE, share)
    assert set(decisions.chosen[decisions.explored].sum(axis=1).tolist()) <= {1}
    np.testing.assert_allclose(decisions.chosen.mean(axis=0), decisions.propensities[0], atol=CLOSE)


@given(st.permutations(range(50)), st.integers(1, 49))
def test_sampling_does_not_depend_on_order_or_batch(order: list[int], cut: int) -> None:
    scores = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    all_keys = keys(50)
    expected = decide(scores, all_keys, SEVERAL, 0.5)
    for part in (order[:cut], order[cut:]):
        decisions = decide(scores[part], [all_keys[row] for row in part], SEVERAL, 0.5)
        np.testing.assert_array_equal(decisions.chosen, expected.chosen[part])
        np.testing.assert_array_equal(decisions.explored, expected.explored[part])


def test_labels_are_sampled_independently_of_each_other() -> None:
    decisions = decide(repeated([0.5, 0.5, 0.5]), keys(MANY), SEVERAL, 1.0)
    correlation = np.corrcoef(decisions.chosen.T.astype(float))
    np.testing.assert_allclose(correlation, np.eye(3), atol=6 / MANY**0.5)


def test_share_0_explores_no_document_and_share_1_every_one() -> None:
    scores = repeated([0.6, 0.6, 0.1])
    unexplored = decide(scores, keys(MANY), SEVERAL, 0.0)
    np.testing.assert_array_equal(unexplored.chosen, passing_labels(scores, SEVERAL))
    assert not unexplored.explored.any()
    assert decide(scores, keys(MANY), SEVERAL, 1.0).explored.all()


def test_a_larger_share_explores_the_documents_of_a_smaller_one() -> None:
    scores = repeated([0.6, 0.6, 0.1])
    small, large = (decide(scores, keys(MANY), SEVERAL, share) for share in (0.1, 0.3))
    assert large.explored[small.explored].all()
    np.testing.assert_array_equal(large.chosen[small.explored], small.chosen[small.explored])


def test_another_model_samples_independently() -> None:
    scores = repeated([*SEVERAL.thresholds])
    first, second = (decide(scores, keys(MANY, digest), SEVERAL, 1.0) for digest in ("m", "n"))
    assert (first.chosen == second.chosen).mean() == pytest.approx(0.5, abs=CLOSE)
