"""PPO's loss: each term by hand and by numerical gradients, and known pitfalls."""

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
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.feedback_batches import LoggedBatch, LoggedBatches
from gliclass_spark.training.data.logged_decisions import LoggedDecisions
from gliclass_spark.training.importance_weights import effective_sample_size, largest_weight
from gliclass_spark.training.reinforcement.policy import action_values, entropy, kl_divergence, log_prob, sample_actions
from gliclass_spark.training.reinforcement.ppo import focal_weights, ppo_loss
from gliclass_spark.training.reinforcement.rollouts import Rollout, baseline, logged_rollout, sampled_rollout

PLAIN = Ppo(value_weight=0, kl_weight=0, entropy_weight=0)
LOGITS = torch.tensor([[0.4, -1.2, 2.0], [0.0, 3.0, -0.5]], dtype=torch.float64)
OLD = LOGITS + torch.tensor([[0.3, 0.1, -0.6], [0.0, -0.2, 0.5]], dtype=torch.float64)
REFERENCE = LOGITS * 0.7 - 0.1
ACTIONS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
REWARDS = torch.tensor([[0.5, -0.2, 1.0], [0.1, 0.9, -1.0]], dtype=torch.float64)
VALUES = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], dtype=torch.float64)
MASK = torch.tensor([[True, True, False], [True, False, True]])
ADVANTAGES = REWARDS - VALUES


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def rollout(weights: Tensor | None = None) -> Rollout:
    ones = torch.ones_like(ACTIONS)
    return Rollout(ACTIONS, log_prob(OLD, ACTIONS), REWARDS, ones if weights is None else weights, MASK, logged=False)


def loss(logits: Tensor, values: Tensor, config: Ppo) -> Tensor:
    return ppo_loss(logits, values, rollout(), ADVANTAGES, REFERENCE, config)[0]


def test_the_clipped_objective_is_that_of_the_paper() -> None:
    gains = []
    for row, column in MASK.nonzero().tolist():
        action, advantage = ACTIONS[row, column].item(), ADVANTAGES[row, column].item()
        new, old = (sigmoid(logits[row, column].item()) for logits in (LOGITS, OLD))
        ratio = new / old if action else (1 - new) / (1 - old)
        gains.append(min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage))
    assert loss(LOGITS, VALUES, PLAIN).item() == pytest.approx(-sum(gains) / len(gains))


def test_value_loss_kl_and_entropy_are_added_with_their_weights() -> None:
    plain = loss(LOGITS, VALUES, PLAIN).item()
    squares = ((VALUES - REWARDS)[MASK] ** 2).mean().item()
    policy, reference = Bernoulli(logits=LOGITS), Bernoulli(logits=REFERENCE)
    distance = exact_kl(policy, reference).mean().item()
    spread = policy.entropy().mean().item()
    for config, expected in (
        (PLAIN.model_copy(update={"value_weight": 0.3}), plain + 0.3 * squares),
        (PLAIN.model_copy(update={"kl_weight": 0.3}), plain + 0.3 * distance),
        (PLAIN.model_copy(update={"entropy_weight": 0.3}), plain - 0.3 * spread),
    ):
        assert loss(LOGITS, VALUES, config).item() == pytest.approx(expected)


def test_every_term_of_one_action_by_hand() -> None:
    """Action 1 with probability 3/4, 1/2 when it was sampled; its reward is 1 and its value 0.5."""
    logits, even = torch.tensor([[math.log(3.0)]]), torch.tensor([[0.0]])
    action, half = torch.tensor([[1.0]]), torch.tensor([[0.5]])
    sampled = Rollout(action, log_prob(even, action), action, action, torch.tensor([[True]]), logged=False)
    config = Ppo(clip_ratio=0.2, value_weight=0.5, kl_weight=0.1, entropy_weight=0.01)
    total, metrics = ppo_loss(logits, half, sampled, action - half, even, config)
    assert metrics == pytest.approx(
        {
            "reward": 1.0,
            "clipfrac": 1.0,  # the ratio is 0.75 / 0.5 = 1.5
            "policy_loss": -0.6,  # 1.2 x 0.5
            "value_loss": 0.25,
            "kl": 0.130812,  # 0.75 ln 1.5 + 0.25 ln 0.5
            "entropy": 0.562335,  # -0.75 ln 0.75 - 0.25 ln 0.25
        },
        rel=1e-5,
    )
    assert total.item() == pytest.approx(-0.6 + 0.125 + 0.0130812 - 0.00562335, rel=1e-5)


TERMS: dict[str, dict[str, float]] = {
    "policy": {},
    "value": {"value_weight": 0.7},
    "kl": {"kl_weight": 0.7},
    "entropy": {"entropy_weight": 0.7},
    "smoothing": {"label_smoothing": 0.1},
    "focal gamma": {"focal_gamma": 2.0},
    "focal alpha": {"focal_alpha": 0.3},
    "all": {"value_weight": 0.5, "kl_weight": 0.1, "entropy_weight": 0.1, "focal_gamma": 2.0, "label_smoothing": 0.1},
}


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_are_those_of_finite_differences_term_by_term(term: str, weighted: bool) -> None:
    config = PLAIN.model_copy(update={"clip_ratio": 0.3, **TERMS[term]})
    actions = rollout(torch.tensor([[0.5, 2.0, 9.0], [1.0, 9.0, 3.0]], dtype=torch.float64) if weighted else None)

    def objective(logits: Tensor, values: Tensor) -> Tensor:
        return ppo_loss(logits, values, actions, ADVANTAGES, REFERENCE, config)[0]

    inputs = LOGITS.clone().requires_grad_(), VALUES.clone().requires_grad_()
    assert torch.autograd.gradcheck(objective, inputs)
    assert torch.autograd.grad(objective(*inputs), inputs[0], allow_unused=True)[0].abs().sum() > 0


@pytest.mark.parametrize(("advantage", "has_gradient"), [(1.0, False), (-1.0, True)])
def test_beyond_the_clip_only_a_negative_advantage_has_a_gradient(advantage: float, has_gradient: bool) -> None:
    action = torch.tensor([[1.0]])
    sampled = Rollout(action, log_prob(torch.tensor([[0.0]]), action), action, action, action > 0, logged=False)
    logits = torch.tensor([[2.0]], requires_grad=True)  # a ratio of 1.76
    ppo_loss(logits, action, sampled, advantage * action, torch.tensor([[0.0]]), PLAIN)[0].backward()
    assert (logits.grad.item() != 0) == has_gradient


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_an_unchanged_policy_has_a_ratio_of_exactly_1(label_smoothing: float) -> None:
    config = PLAIN.model_copy(update={"label_smoothing": label_smoothing})
    targets = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    sampled = sampled_rollout(LOGITS, ACTIONS, targets, config)
    logged = logged_rollout(LOGITS, logged_batch(), config)
    for each in (sampled, logged):
        total, metrics = ppo_loss(LOGITS, VALUES, each, ADVANTAGES, REFERENCE, config)
        assert total.item() == -(ADVANTAGES * each.importance_weights)[each.mask].mean().item()
        assert metrics["clipfrac"] == 0.0


@pytest.mark.parametrize("term", ["value_weight", "kl_weight", "entropy_weight", "focal_gamma"])
def test_a_weight_of_0_removes_a_term_and_a_negative_one_is_refused(term: str) -> None:
    off = Ppo(**{term: 0.0})
    _, metrics = ppo_loss(LOGITS, VALUES, rollout(), ADVANTAGES, REFERENCE, off)
    assert {"value_weight": "value_loss", "kl_weight": "kl", "entropy_weight": "entropy"}.get(term) not in metrics
    for value in (-1.0, -1e-9):
        with pytest.raises(ValidationError, match=term):
            Ppo(**{term: value})


def test_an_action_without_a_reward_changes_nothing_but_the_kl() -> None:
    elsewhere = torch.where(MASK, LOGITS, LOGITS + 5)
    config = PLAIN.model_copy(update={"value_weight": 1.0})
    assert loss(elsewhere, torch.where(MASK, VALUES, VALUES - 9), config) == loss(LOGITS, VALUES, config)


def test_a_batch_without_rewards_has_the_kl_loss_alone() -> None:
    nothing = replace(rollout(), mask=torch.zeros_like(MASK))
    logits, values = LOGITS.clone().requires_grad_(), VALUES.clone().requires_grad_()
    config = Ppo(value_weight=1.0, kl_weight=1.0, entropy_weight=0.0)
    total, metrics = ppo_loss(logits, values, nothing, ADVANTAGES, REFERENCE, config)
    assert total.item() == kl_divergence(LOGITS, REFERENCE).mean().item()
    assert metrics.keys() == {"clipfrac", "policy_loss", "value_loss", "kl"}
    total.backward()
    assert torch.isfinite(logits.grad).all()
    assert (values.grad == 0).all()


def test_the_kl_is_that_of_the_two_distributions_and_not_of_one_outcome() -> None:
    kl = kl_divergence(LOGITS, REFERENCE)
    torch.testing.assert_close(kl, exact_kl(Bernoulli(logits=LOGITS), Bernoulli(logits=REFERENCE)))
    p, q = sigmoid(0.4), sigmoid(0.4 * 0.7 - 0.1)
    assert kl[0, 0].item() == pytest.approx(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    assert (kl_divergence(LOGITS, LOGITS) == 0).all()
    torch.testing.assert_close(entropy(LOGITS), Bernoulli(logits=LOGITS).entropy())


def test_focal_gamma_lowers_the_weight_of_certain_actions() -> None:
    log_probs = torch.log(torch.tensor([[0.9, 0.5, 0.1]]))
    actions = torch.tensor([[1.0, 0.0, 1.0]])
    weights = focal_weights(actions, log_probs, Ppo(focal_gamma=2.0))
    torch.testing.assert_close(weights, torch.tensor([[0.01, 0.25, 0.81]]))
    weights = focal_weights(actions, log_probs, Ppo(focal_alpha=0.7))
    torch.testing.assert_close(weights, torch.tensor([[0.7, 0.3, 0.7]]))


def test_smoothing_mixes_in_the_log_probability_of_the_other_action() -> None:
    logits, action = torch.tensor([1.5]), torch.tensor([1.0])
    p = sigmoid(1.5)
    smoothed = log_prob(logits, action, label_smoothing=0.2).item()
    assert smoothed == pytest.approx(0.9 * math.log(p) + 0.1 * math.log(1 - p), rel=1e-5)


def logged_batch() -> LoggedBatch:
    nan = np.nan
    return LoggedBatch(
        ("one", "two"),
        ("cat", "dog", "owl"),
        np.full((2, 3), -1.0, dtype=np.float32),
        actions=np.array([[1, 0, nan], [0, nan, 1]], dtype=np.float32),
        inverse_propensities=np.array([[2, 1.25, nan], [10, nan, 30]], dtype=np.float32),
        rewards=np.array([[1, 0.5, nan], [-1, nan, 0.25]], dtype=np.float32),
    )


@given(st.lists(st.floats(-6, 6, width=32), min_size=3, max_size=3), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_actions_have_the_policys_probabilities_and_are_the_same_for_the_same_step(row: list[float], step: int) -> None:
    logits = torch.tensor(row).expand(20_000, 3)
    actions = sample_actions(logits, (0, step))
    assert set(actions.unique().tolist()) <= {0.0, 1.0}
    close = 6 * 0.5 / len(logits) ** 0.5  # six standard deviations at most
    torch.testing.assert_close(actions.mean(dim=0), torch.sigmoid(logits[0]), atol=close, rtol=0)
    assert torch.equal(actions, sample_actions(logits, (0, step)))
    certain = torch.sigmoid(logits[0]).sub(0.5).abs().gt(0.49).all()
    assert certain or not torch.equal(actions, sample_actions(logits, (0, step + 1)))


def test_importance_weights_are_policy_probability_over_logged_propensity() -> None:
    logged = logged_rollout(LOGITS, logged_batch(), Ppo())
    assert logged.mask.tolist() == [[True, True, False], [True, False, True]]
    expected = [
        sigmoid(0.4) / 0.5,
        (1 - sigmoid(-1.2)) / 0.8,
        (1 - sigmoid(0.0)) / 0.1,
        sigmoid(-0.5) * 30,
    ]
    assert logged.importance_weights[logged.mask].tolist() == pytest.approx(expected, rel=1e-5)
    assert logged.rewards[logged.mask].tolist() == [1.0, 0.5, -1.0, 0.25]
    torch.testing.assert_close(logged.logprobs, log_prob(LOGITS, logged.actions.double()), check_dtype=False)


def test_the_effective_sample_size_is_kishs() -> None:
    assert effective_sample_size(np.array([1.0, 3.0])) == pytest.approx(16 / 10)
    assert effective_sample_size(np.ones(5, dtype=np.float32)) == pytest.approx(5.0)
    assert effective_sample_size(np.ones(0)) == 0.0


@given(st.lists(st.floats(1, 1e4), min_size=1, max_size=50), st.floats(0.05, 1.0))
def test_the_largest_weight_is_as_large_as_the_effective_sample_size_allows(weights: list[float], share: float) -> None:
    array = np.array(weights)
    bound = largest_weight(array, share)
    needed = share * len(array)
    assert array.min() <= bound <= array.max()
    assert effective_sample_size(np.minimum(array, bound)) >= needed * (1 - 1e-6)
    if bound < array.max() * (1 - 1e-6):
        assert effective_sample_size(np.minimum(array, bound * 1.01)) < needed * (1 + 1e-6)


def test_weights_that_leave_enough_samples_effective_are_not_clipped() -> None:
    assert largest_weight(np.array([1.0, 2.0, 5.0]), 0.5) == 5.0
    assert largest_weight(np.ones(0)) == 1.0


def test_the_baseline_is_the_states_value_under_the_policy() -> None:
    q_values = torch.stack([VALUES - 1, VALUES], dim=-1)
    pi = torch.sigmoid(OLD)
    torch.testing.assert_close(baseline(q_values, OLD, rollout(), "unknown"), pi * VALUES + (1 - pi) * (VALUES - 1))
    logged = replace(rollout(), logged=True)
    torch.testing.assert_close(baseline(q_values, OLD, logged, "zero"), pi * VALUES)
    one_sided = replace(logged, rewards_both_actions=False)
    for not_given in ("zero", "unknown"):
        assert (baseline(q_values, OLD, one_sided, not_given) == 0).all()
    torch.testing.assert_close(action_values(q_values, ACTIONS), torch.where(ACTIONS > 0, VALUES, VALUES - 1))


BANDITS: dict[str, tuple[float, float | None, str]] = {
    "bad, given alone": (-0.6, None, "unknown"),
    "good, given alone": (0.6, None, "unknown"),
    "bad, not given is worth 0": (-0.6, None, "zero"),
    "good, not given is worth 0": (0.6, None, "zero"),
    "bad, both rewarded": (-0.6, 0.1, "unknown"),
    "good, both rewarded": (0.2, -0.3, "unknown"),
}


@pytest.mark.parametrize("bandit", BANDITS)
def test_the_policy_reaches_the_optimum_of_a_bandit_with_a_known_answer(bandit: str) -> None:
    """Maximal pi q(1) + (1 - pi) q(0) - beta KL(pi || ref): its logit is logit_ref + (q(1) - q(0)) / beta."""
    q_given, q_not_given, not_given = BANDITS[bandit]
    config = Ppo(kl_weight=0.2, entropy_weight=0.0, not_given=not_given)
    ref_logits = torch.full((1, 1), 0.84)
    logits = ref_logits.clone().requires_grad_()
    q_values = torch.zeros(1, 1, 2, requires_grad=True)
    optimizer = torch.optim.SGD([{"params": [logits], "lr": 1.0}, {"params": [q_values], "lr": 0.1}])
    actions = np.array([[0.0], [1.0]], dtype=np.float32)  # as often given as not
    rewards = np.array([[np.nan if q_not_given is None else q_not_given], [q_given]], dtype=np.float32)
    nothing = np.full_like(actions, -1)
    half, kept = np.full_like(actions, 0.5), np.zeros(2, dtype=bool)
    decisions = LoggedDecisions(LabelSet.of("a"), ("x", "y"), nothing, rewards, actions, half, kept)
    batches = LoggedBatches(decisions, texts=2, size=300, seed=0, not_given=not_given)
    for step in range(300):
        batch = batches[step]
        rows = len(batch.texts)
        old_logits = logits.detach().expand(rows, 1)
        sampled = logged_rollout(old_logits, batch, config)
        both = q_values.expand(rows, 1, 2)
        advantages = sampled.rewards - baseline(both, old_logits, sampled, config.not_given)
        values = action_values(both, sampled.actions)
        total, _ = ppo_loss(logits.expand(rows, 1), values, sampled, advantages, ref_logits.expand(rows, 1), config)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    expected = sigmoid(0.84 + (q_given - (q_not_given or 0.0)) / 0.2)
    assert sigmoid(logits.item()) == pytest.approx(expected, abs=0.01)


# Of two labels given or not, the reward of both together: the first is right, and the second alone is the worst.
TOGETHER = {(1, 0): 1.0, (1, 1): 0.2, (0, 0): 0.0, (0, 1): -1.0}


@pytest.mark.parametrize("with_label_rewards", [False, True])
def test_the_policy_learns_from_one_reward_for_all_labels_of_a_text(with_label_rewards: bool) -> None:
    """Also beside a third label that is rewarded alone, for being given, and has no baseline."""
    combinations = [*TOGETHER]
    actions = np.full((len(combinations), 3), np.nan, dtype=np.float32)
    actions[:, :2] = combinations
    rewards = np.full_like(actions, np.nan)
    if with_label_rewards:
        actions[:, 2], rewards[:, 2] = 1.0, -0.6
    decisions = LoggedDecisions(
        LabelSet.of("right", "wrong", "third"),
        tuple("abcd"),
        np.full_like(actions, -1),
        rewards,
        actions,
        np.where(np.isnan(actions), np.nan, 0.5).astype(np.float32),
        np.zeros(len(actions), dtype=bool),
        np.array([*TOGETHER.values()], dtype=np.float32),
    )
    config = Ppo(kl_weight=0.05, entropy_weight=0.0)
    batches = LoggedBatches(decisions, texts=4, size=150, seed=0)
    logits = torch.zeros(3, requires_grad=True)
    q_values = torch.zeros(3, 2, requires_grad=True)
    optimizer = torch.optim.SGD([{"params": [logits], "lr": 1.0}, {"params": [q_values], "lr": 0.1}])
    for step in range(150):
        batch = batches[step]
        order = [decisions.label_set.texts.index(label) for label in batch.labels]
        of_texts = logits[order].expand(4, 3)
        old_logits, both = of_texts.detach(), q_values[order].expand(4, 3, 2)
        logged = logged_rollout(old_logits, batch, config)
        advantages = logged.rewards - baseline(both, old_logits, logged, config.not_given)
        total, _ = ppo_loss(
            of_texts, action_values(both, logged.actions), logged, advantages, torch.zeros(4, 3), config
        )
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    right, wrong, third = torch.sigmoid(logits).tolist()
    assert right > 0.95
    assert wrong < 0.05
    assert third < 0.05 if with_label_rewards else third == pytest.approx(0.5, abs=0.01)


def test_weights_of_judgements_count_in_the_reward_and_in_the_loss() -> None:
    targets = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    weights = torch.tensor([[1.0, 3.0, 0.0], [1.0, 2.0, 0.5]], dtype=torch.float64)
    sampled = sampled_rollout(LOGITS, ACTIONS, targets, PLAIN, weights)
    assert sampled.rewards[0, 0].item() == pytest.approx(1.0)
    assert sampled.rewards[1, 0].item() == pytest.approx(1.0)
    wrong = sampled_rollout(LOGITS, 1 - ACTIONS, targets, PLAIN, weights)
    assert wrong.rewards[0, 0].item() == 0.0
    half = sampled_rollout(LOGITS, torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]), targets, PLAIN, weights)
    assert half.rewards[0, 0].item() == pytest.approx(2 * 1 / (4 + 1))
    assert half.rewards[1, 0].item() == pytest.approx(2 * 2 / (3 + 2.5))
    assert torch.equal(half.importance_weights, weights)
