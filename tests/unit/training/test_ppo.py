"""PPO's objective, each term by hand and by numerical gradients, and the traps that such code falls into."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Bernoulli
from torch.distributions import kl_divergence as exact_kl

from gliclass_spark.config.retraining import Ppo
from gliclass_spark.training.data.feedback_batches import LoggedBatch
from gliclass_spark.training.ppo import (
    Experience,
    drawn_experience,
    effective_sample_size,
    entropy,
    focal_weights,
    kl_divergence,
    log_prob,
    logged_experience,
    ppo_loss,
    sample_actions,
)

PLAIN = Ppo(value_weight=0, kl_weight=0, entropy_weight=0)
LOGITS = torch.tensor([[0.4, -1.2, 2.0], [0.0, 3.0, -0.5]], dtype=torch.float64)
OLD = LOGITS + torch.tensor([[0.3, 0.1, -0.6], [0.0, -0.2, 0.5]], dtype=torch.float64)
REFERENCE = LOGITS * 0.7 - 0.1
ACTIONS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
REWARDS = torch.tensor([[0.5, -0.2, 1.0], [0.1, 0.9, -1.0]], dtype=torch.float64)
VALUES = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], dtype=torch.float64)
KNOWN = torch.tensor([[True, True, False], [True, False, True]])
ADVANTAGES = REWARDS - VALUES


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def experience(weights: Tensor | None = None) -> Experience:
    ones = torch.ones_like(ACTIONS)
    return Experience(
        ACTIONS, log_prob(OLD, ACTIONS), REWARDS, ones if weights is None else weights, KNOWN, logged=False
    )


def loss(logits: Tensor, values: Tensor, config: Ppo) -> Tensor:
    return ppo_loss(logits, values, experience(), ADVANTAGES, REFERENCE, config)[0]


def test_the_clipped_objective_is_the_papers() -> None:
    gains = []
    for row, column in KNOWN.nonzero().tolist():
        action, advantage = ACTIONS[row, column].item(), ADVANTAGES[row, column].item()
        new, old = (sigmoid(logits[row, column].item()) for logits in (LOGITS, OLD))
        ratio = new / old if action else (1 - new) / (1 - old)
        gains.append(min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage))
    found = loss(LOGITS, VALUES, PLAIN)
    assert found.item() == pytest.approx(-sum(gains) / len(gains))


def test_the_values_error_the_distance_and_the_entropy_are_added_by_their_weights() -> None:
    plain = loss(LOGITS, VALUES, PLAIN).item()
    squares = ((VALUES - REWARDS)[KNOWN] ** 2).mean().item()
    policy, reference = Bernoulli(logits=LOGITS), Bernoulli(logits=REFERENCE)
    distance = exact_kl(policy, reference).mean().item()
    spread = policy.entropy().mean().item()
    for config, expected in (
        (PLAIN.model_copy(update={"value_weight": 0.3}), plain + 0.3 * squares),
        (PLAIN.model_copy(update={"kl_weight": 0.3}), plain + 0.3 * distance),
        (PLAIN.model_copy(update={"entropy_weight": 0.3}), plain - 0.3 * spread),
    ):
        assert loss(LOGITS, VALUES, config).item() == pytest.approx(expected)


def test_every_term_of_one_decision_by_hand() -> None:
    """Given with probability 3/4, after 1/2 when it was drawn; worth 1, where a half was expected."""
    logits, even = torch.tensor([[math.log(3.0)]]), torch.tensor([[0.0]])
    given, half = torch.tensor([[1.0]]), torch.tensor([[0.5]])
    drawn = Experience(given, log_prob(even, given), given, given, torch.tensor([[True]]), logged=False)
    config = Ppo(clip_ratio=0.2, value_weight=0.5, kl_weight=0.1, entropy_weight=0.01)
    found, metrics = ppo_loss(logits, half, drawn, given - half, even, config)
    assert metrics == pytest.approx(
        {
            "reward": 1.0,
            "clipped_share": 1.0,  # the ratio is 0.75 / 0.5 = 1.5
            "policy_loss": -0.6,  # 1.2 x 0.5
            "value_loss": 0.25,
            "kl": 0.130812,  # 0.75 ln 1.5 + 0.25 ln 0.5
            "entropy": 0.562335,  # -0.75 ln 0.75 - 0.25 ln 0.25
        },
        rel=1e-5,
    )
    assert found.item() == pytest.approx(-0.6 + 0.125 + 0.0130812 - 0.00562335, rel=1e-5)


TERMS: dict[str, dict[str, float]] = {
    "policy": {},
    "value": {"value_weight": 0.7},
    "distance": {"kl_weight": 0.7},
    "entropy": {"entropy_weight": 0.7},
    "smoothing": {"label_smoothing": 0.1},
    "focal gamma": {"focal_gamma": 2.0},
    "focal alpha": {"focal_alpha": 0.3},
    "all": {"value_weight": 0.5, "kl_weight": 0.1, "entropy_weight": 0.1, "focal_gamma": 2.0, "label_smoothing": 0.1},
}


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_are_those_of_finite_differences_term_by_term(term: str, weighted: bool) -> None:
    """`gradcheck` moves each logit and each value a little, and looks what becomes of the objective."""
    config = PLAIN.model_copy(update={"clip_ratio": 0.3, **TERMS[term]})
    replayed = experience(torch.tensor([[0.5, 2.0, 9.0], [1.0, 9.0, 3.0]], dtype=torch.float64) if weighted else None)

    def objective(logits: Tensor, values: Tensor) -> Tensor:
        return ppo_loss(logits, values, replayed, ADVANTAGES, REFERENCE, config)[0]

    inputs = LOGITS.clone().requires_grad_(), VALUES.clone().requires_grad_()
    assert torch.autograd.gradcheck(objective, inputs)
    assert torch.autograd.grad(objective(*inputs), inputs[0], allow_unused=True)[0].abs().sum() > 0


@pytest.mark.parametrize(("advantage", "pulled"), [(1.0, False), (-1.0, True)])
def test_a_gain_beyond_the_clip_pulls_no_further_but_a_loss_does(advantage: float, pulled: bool) -> None:
    given = torch.tensor([[1.0]])
    drawn = Experience(given, log_prob(torch.tensor([[0.0]]), given), given, given, given > 0, logged=False)
    logits = torch.tensor([[2.0]], requires_grad=True)  # a ratio of 1.76
    ppo_loss(logits, given, drawn, advantage * given, torch.tensor([[0.0]]), PLAIN)[0].backward()
    assert (logits.grad.item() != 0) == pulled


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_an_unchanged_policy_has_a_ratio_of_exactly_1(label_smoothing: float) -> None:
    config = PLAIN.model_copy(update={"label_smoothing": label_smoothing})
    targets = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    drawn = drawn_experience(LOGITS, ACTIONS, targets, config)
    logged = logged_experience(LOGITS, question(), config)
    for each in (drawn, logged):
        found, metrics = ppo_loss(LOGITS, VALUES, each, ADVANTAGES, REFERENCE, config)
        assert found.item() == -(ADVANTAGES * each.weights)[each.known].mean().item()
        assert metrics["clipped_share"] == 0.0


@pytest.mark.parametrize("term", ["value_weight", "kl_weight", "entropy_weight", "focal_gamma"])
def test_a_weight_of_0_switches_a_term_off_and_a_negative_one_is_refused(term: str) -> None:
    off = Ppo(**{term: 0.0})
    _, metrics = ppo_loss(LOGITS, VALUES, experience(), ADVANTAGES, REFERENCE, off)
    assert {"value_weight": "value_loss", "kl_weight": "kl", "entropy_weight": "entropy"}.get(term) not in metrics
    for value in (-1.0, -1e-9):
        with pytest.raises(ValidationError, match=term):
            Ppo(**{term: value})


def test_a_label_without_a_reward_changes_no_part_of_the_objective_but_the_distance() -> None:
    elsewhere = torch.where(KNOWN, LOGITS, LOGITS + 5)
    config = PLAIN.model_copy(update={"value_weight": 1.0})
    assert loss(elsewhere, torch.where(KNOWN, VALUES, VALUES - 9), config) == loss(LOGITS, VALUES, config)


def test_a_question_of_which_no_label_is_known_teaches_nothing_but_to_stay_near_the_reference() -> None:
    nothing = replace(experience(), known=torch.zeros_like(KNOWN))
    logits, values = LOGITS.clone().requires_grad_(), VALUES.clone().requires_grad_()
    config = Ppo(value_weight=1.0, kl_weight=1.0, entropy_weight=0.0)
    found, metrics = ppo_loss(logits, values, nothing, ADVANTAGES, REFERENCE, config)
    assert found.item() == kl_divergence(LOGITS, REFERENCE).mean().item()
    assert metrics.keys() == {"clipped_share", "policy_loss", "value_loss", "kl"}
    found.backward()
    assert torch.isfinite(logits.grad).all()
    assert (values.grad == 0).all()


def test_the_distance_is_that_of_the_two_distributions_and_not_of_one_outcome() -> None:
    found = kl_divergence(LOGITS, REFERENCE)
    torch.testing.assert_close(found, exact_kl(Bernoulli(logits=LOGITS), Bernoulli(logits=REFERENCE)))
    p, q = sigmoid(0.4), sigmoid(0.4 * 0.7 - 0.1)
    assert found[0, 0].item() == pytest.approx(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    assert (kl_divergence(LOGITS, LOGITS) == 0).all()
    torch.testing.assert_close(entropy(LOGITS), Bernoulli(logits=LOGITS).entropy())


def test_focal_gamma_turns_the_eye_from_decisions_that_the_policy_is_sure_of() -> None:
    log_probs = torch.log(torch.tensor([[0.9, 0.5, 0.1]]))
    actions = torch.tensor([[1.0, 0.0, 1.0]])
    found = focal_weights(actions, log_probs, Ppo(focal_gamma=2.0))
    torch.testing.assert_close(found, torch.tensor([[0.01, 0.25, 0.81]]))
    found = focal_weights(actions, log_probs, Ppo(focal_alpha=0.7))
    torch.testing.assert_close(found, torch.tensor([[0.7, 0.3, 0.7]]))


def test_smoothing_draws_an_actions_log_probability_towards_the_other_outcomes() -> None:
    logits, action = torch.tensor([1.5]), torch.tensor([1.0])
    p = sigmoid(1.5)
    found = log_prob(logits, action, label_smoothing=0.2).item()
    assert found == pytest.approx(0.9 * math.log(p) + 0.1 * math.log(1 - p), rel=1e-5)


def question() -> LoggedBatch:
    nan = np.nan
    return LoggedBatch(
        ("one", "two"),
        ("cat", "dog", "owl"),
        np.full((2, 3), -1.0, dtype=np.float32),
        actions=np.array([[1, 0, nan], [0, nan, 1]], dtype=np.float32),
        propensities=np.array([[0.5, 0.2, nan], [0.9, nan, 0.01]], dtype=np.float32),
        rewards=np.array([[1, 0.5, nan], [-1, nan, 0.25]], dtype=np.float32),
    )


@given(st.lists(st.floats(-6, 6, width=32), min_size=3, max_size=3), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_actions_are_drawn_from_the_policys_probabilities_and_again_for_the_same_step(
    row: list[float], step: int
) -> None:
    logits = torch.tensor(row).expand(20_000, 3)
    actions = sample_actions(logits, (0, step))
    assert set(actions.unique().tolist()) <= {0.0, 1.0}
    close = 6 * 0.5 / len(logits) ** 0.5  # six standard deviations at most
    torch.testing.assert_close(actions.mean(dim=0), torch.sigmoid(logits[0]), atol=close, rtol=0)
    assert torch.equal(actions, sample_actions(logits, (0, step)))
    certain = torch.sigmoid(logits[0]).sub(0.5).abs().gt(0.49).all()
    assert certain or not torch.equal(actions, sample_actions(logits, (0, step + 1)))


def test_logged_decisions_weigh_the_policys_probability_over_the_logged_propensity() -> None:
    found = logged_experience(LOGITS, question(), Ppo(max_weight=10))
    assert found.known.tolist() == [[True, True, False], [True, False, True]]
    expected = [
        sigmoid(0.4) / 0.5,
        (1 - sigmoid(-1.2)) / 0.8,
        (1 - sigmoid(0.0)) / 0.1,
        10.0,  # sigmoid(-0.5) / 0.01, clipped
    ]
    assert found.weights[found.known].tolist() == pytest.approx(expected, rel=1e-5)
    assert found.rewards[found.known].tolist() == [1.0, 0.5, -1.0, 0.25]
    torch.testing.assert_close(found.log_probs, log_prob(LOGITS, found.actions.double()), check_dtype=False)


def test_the_effective_sample_size_is_kishs() -> None:
    weights, known = torch.tensor([[1.0, 3.0, 100.0]]), torch.tensor([[True, True, False]])
    assert effective_sample_size(weights, known) == pytest.approx(16 / 10)
    assert effective_sample_size(torch.ones(1, 5), torch.ones(1, 5, dtype=torch.bool)) == pytest.approx(5.0)
