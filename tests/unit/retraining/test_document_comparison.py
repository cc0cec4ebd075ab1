"""What two models would earn where documents got one reward for all of their labels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gliclass_spark.labels import LabelSet
from gliclass_spark.retraining.document_comparison import document_reward_difference
from gliclass_spark.training.data.logged_decisions import LoggedDecisions

WORTH = np.array([0.5, -0.25])


def logged(actions: np.ndarray, rewards: np.ndarray, propensities: np.ndarray) -> LoggedDecisions:
    matrix, nothing = actions.astype(np.float32), np.full(actions.shape, np.nan, dtype=np.float32)
    return LoggedDecisions(
        LabelSet.of("x", "y"),
        tuple(map(str, range(len(actions)))),
        np.full_like(matrix, -1),
        nothing,
        matrix,
        np.broadcast_to(propensities.astype(np.float32), matrix.shape),
        np.ones(len(actions), dtype=bool),
        rewards.astype(np.float32),
    )


@pytest.mark.parametrize("propensities", [(0.5, 0.5), (0.75, 0.25), (0.25, 0.25)])
def test_labels_that_add_to_the_reward_are_found_whatever_was_explored(propensities: tuple[float, float]) -> None:
    """Every combination of labels as often as it is decided, so that the estimate has no chance in it."""
    rows = [
        combination
        for combination in itertools.product((0, 1), repeat=2)
        for _ in range(round(16 * np.prod([p if a else 1 - p for a, p in zip(combination, propensities, strict=True)])))
    ]
    actions = np.array(rows)
    decisions = logged(actions, actions @ WORTH, np.array(propensities))
    nothing = np.zeros(actions.shape, dtype=bool)
    for labels, expected in (((1, 0), 0.5), ((0, 1), -0.25), ((1, 1), 0.25)):
        chosen = np.broadcast_to(np.array(labels, dtype=bool), actions.shape)
        difference = document_reward_difference(decisions, chosen, nothing)
        assert difference is not None
        assert difference.difference == pytest.approx(expected, abs=1e-6)
        assert (difference.documents, difference.decisions) == (16, 32)
    same = document_reward_difference(decisions, nothing, nothing)
    assert same is not None
    assert (same.difference, same.standard_error) == (0.0, 0.0)


def test_the_better_of_two_models_is_found_by_rewards_in_which_precision_counts() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((600, 2)) < 0.4
    explored = rng.random(600) < 0.3
    champion = np.where(rng.random(truth.shape) < 0.7, truth, ~truth)
    actions = np.where(explored[:, np.newaxis], rng.random(truth.shape) < 0.5, champion)
    propensities = 0.7 * champion + 0.3 * 0.5
    hits, given = (actions & truth).sum(axis=1), actions.sum(axis=1)
    rewards = np.where(given > 0, 2 * hits / np.maximum(given, 1) - 1, 0.0)
    better = np.where(rng.random(truth.shape) < 0.9, truth, ~truth)
    difference = document_reward_difference(logged(actions, rewards, propensities), better, champion)
    assert difference is not None
    assert difference.bounds(0.95)[0] > 0


def test_equal_rewards_or_none_are_no_evidence() -> None:
    actions = np.array([[1, 0], [0, 1]])
    chosen = actions > 0
    for rewards in (np.ones(2), np.full(2, np.nan)):
        assert document_reward_difference(logged(actions, rewards, np.full(2, 0.5)), chosen, ~chosen) is None
