"""Ways to learn a policy from logged decisions and their rewards, on frozen embeddings.

A policy gives labels by logits: those of the champion plus a linear function of a text's features. Each way is a loss
of a batch, called once for each update with the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_spark.config.retraining import Ppo
from gliclass_spark.training.importance_weights import largest_weight
from gliclass_spark.training.reinforcement.policy import (
    action_values,
    log_prob,
    sample_actions,
    value_features,
    value_head,
)
from gliclass_spark.training.reinforcement.ppo import ppo_loss
from gliclass_spark.training.reinforcement.rollouts import Rollout, baseline

STEPS, TEXTS, UPDATES = 100, 64, 2

Kind = Literal["labels", "documents"]
Policy = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Log:
    """Decisions of the champion, with exploration.

    features: (texts, size). logits: the champion's, (texts, labels). actions, propensities: (texts, labels); whether a
    text got the label, and the probability that it would. rewards: of rows and their actions, (rows, labels) or one for
    each text, (rows, 1).
    """

    features: np.ndarray
    logits: np.ndarray
    actions: np.ndarray
    propensities: np.ndarray
    rewards: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Outputs:
    """What the model says about texts.

    logits: of the policy. worth: predicted reward of giving a label instead of not, in [-1, 1]; both (texts, labels).
    base: predicted reward of a document without labels, (texts, 1). q_values: of the value head of a retraining, the
    predicted rewards of both actions, (texts, labels, 2).
    """

    logits: Tensor
    worth: Tensor
    base: Tensor
    q_values: Tensor


class LinearModel(nn.Module):
    """The policy and a prediction of rewards, both starting from the champion's logits."""

    def __init__(self, size: int, labels: int, kind: Kind) -> None:
        super().__init__()
        self._kind = kind
        self.policy, self.worth, self.base = nn.Linear(size, labels), nn.Linear(size, labels), nn.Linear(size, 1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.value = value_head()

    def forward(self, features: Tensor, champion: Tensor) -> Outputs:
        worth = torch.tanh((champion + self.worth(features)) / 2)
        sharing = torch.full_like(champion, self._kind == "documents", dtype=torch.bool)
        q_values = self.value(value_features(champion, sharing))
        return Outputs(champion + self.policy(features), worth, self.base(features), q_values)


@dataclass(frozen=True)
class Batch:
    """Texts of a step, the same in its updates: (texts, labels) each. rewarded: whether the action earned the reward.

    weights: inverse propensities of the actions, clipped and normalized. propensities: of the actions.
    """

    kind: Kind
    step: int
    seed: int
    rows: np.ndarray
    champion: Tensor
    actions: Tensor
    rewards: Tensor
    rewarded: Tensor
    weights: Tensor
    propensities: Tensor
    simulate: Callable[[np.ndarray, np.ndarray], np.ndarray]


# Of the model's outputs, the batch, PPO's configuration, and what the step's first update left for the others.
Loss = Callable[[Outputs, Batch, Ppo, "list[Rollout]"], Tensor]


@dataclass(frozen=True)
class Learner:
    """loss: of a batch. greedy: whether labels are given by the predicted rewards instead of the logits."""

    loss: Loss
    greedy: bool = False


def learn(learner: Learner, log: Log, kind: Kind, *, rate: float, kl_weight: float, seed: int) -> Policy:
    """Return the policy that gives labels, (texts, labels) of 0 and 1, after the same updates for every learner."""
    torch.manual_seed(seed)
    model = LinearModel(log.features.shape[1], log.logits.shape[1], kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    config = Ppo(kl_weight=kl_weight, value_weight=0.0)
    inverse = 1 / np.where(log.actions > 0, log.propensities, 1 - log.propensities)
    is_rewarded = log.actions > 0 if kind == "labels" else np.ones_like(log.actions, dtype=bool)
    clipped = np.minimum(inverse, largest_weight(inverse[is_rewarded]))
    weights = clipped / clipped[is_rewarded].mean() if is_rewarded.any() else clipped
    features, champion = torch.from_numpy(log.features), torch.from_numpy(log.logits)
    order = np.concatenate([np.random.default_rng((seed, part)).permutation(len(log.features)) for part in range(99)])
    for step in range(STEPS):
        rows = order[step * TEXTS : (step + 1) * TEXTS]
        actions = log.actions[rows]
        batch = Batch(
            kind,
            step,
            seed,
            rows,
            champion[rows],
            torch.from_numpy(actions),
            torch.from_numpy(log.rewards(rows, actions)).expand(actions.shape),
            torch.from_numpy(is_rewarded[rows]),
            torch.from_numpy(weights[rows].astype(np.float32)),
            torch.from_numpy((1 / inverse[rows]).astype(np.float32)),
            log.rewards,
        )
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / STEPS)
        rollouts: list[Rollout] = []
        for _ in range(UPDATES):
            loss = learner.loss(model(features[rows], batch.champion), batch, config, rollouts)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def policy(features: np.ndarray, champion: np.ndarray) -> np.ndarray:
        outputs: Outputs = model(torch.from_numpy(features), torch.from_numpy(champion))
        given = (outputs.worth if learner.greedy else outputs.logits) > 0
        return given.numpy().astype(np.float64)

    return policy


def _supervised(weigh: Callable[[Batch], Tensor], logits: Tensor, batch: Batch) -> Tensor:
    """Labels of good decisions are taken as true, those of bad ones as false; of a document only good ones say more."""
    is_good = (batch.rewards > 0).float()
    if batch.kind == "labels":
        targets, known = is_good, batch.rewarded.float()
    else:
        targets, known = batch.actions, is_good
    loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    weights = weigh(batch) * known
    return (loss * weights).sum() / known.sum().clamp(min=1)


def accepted(outputs: Outputs, batch: Batch, config: Ppo, rollouts: list[Rollout]) -> Tensor:
    """Decisions are right or wrong, all alike."""
    return _supervised(lambda batch: torch.ones_like(batch.rewards), outputs.logits, batch)


def by_inverse_propensity(outputs: Outputs, batch: Batch, config: Ppo, rollouts: list[Rollout]) -> Tensor:
    """As accepted, weighted by inverse propensity."""
    return _supervised(lambda batch: batch.weights, outputs.logits, batch)


def by_size(outputs: Outputs, batch: Batch, config: Ppo, rollouts: list[Rollout]) -> Tensor:
    """As accepted, weighted by the size of the reward."""
    return _supervised(lambda batch: batch.rewards.abs(), outputs.logits, batch)


def by_both(outputs: Outputs, batch: Batch, config: Ppo, rollouts: list[Rollout]) -> Tensor:
    """As accepted, weighted by inverse propensity and the size of the reward."""
    return _supervised(lambda batch: batch.weights * batch.rewards.abs(), outputs.logits, batch)


def reward_regression(outputs: Outputs, batch: Batch, config: Ppo, rollouts: list[Rollout]) -> Tensor:
    """A label is given if it is predicted to be worth more than nothing."""
    return _prediction_error(outputs, batch)


def ppo_on_policy(outputs: Outputs, batch: Batch, config: Ppo, rollouts: list[Rollout]) -> Tensor:
    """Actions of the policy itself, which are rewarded at once."""
    if not rollouts:
        logits = outputs.logits.detach()
        actions = sample_actions(logits, (batch.seed, batch.step))
        rewards = torch.from_numpy(batch.simulate(batch.rows, actions.numpy())).expand(actions.shape)
        everywhere = torch.ones_like(actions)
        advantages = rewards - _state_values(outputs, batch.kind)
        rollouts.append(
            Rollout(actions, log_prob(logits, actions), advantages, everywhere, everywhere > 0, logged=False)
        )
        rollouts.append(Rollout(actions, everywhere, rewards, everywhere, everywhere > 0, logged=False))
    earned = rollouts[1]
    on_policy = replace(batch, actions=earned.actions, rewards=earned.rewards, rewarded=earned.actions > 0)
    return _policy_loss(outputs, rollouts[0], batch, config) + _prediction_error(outputs, on_policy)


def ppo_off_policy(outputs: Outputs, batch: Batch, config: Ppo, rollouts: list[Rollout]) -> Tensor:
    """Logged actions with importance weights and the value head of a retraining: a value for each label.

    No baseline where only given labels are rewarded.
    """
    if not rollouts:
        logged = _logged(outputs, batch, batch.rewards)
        values = baseline(outputs.q_values, outputs.logits.detach(), logged, config.not_given)
        rollouts.append(replace(logged, rewards=batch.rewards - values))
    errors = (action_values(outputs.q_values, batch.actions) - batch.rewards) ** 2
    value_loss = (errors * batch.rewarded).sum() / batch.rewarded.sum().clamp(min=1)
    return _policy_loss(outputs, rollouts[0], batch, config) + Ppo().value_weight * value_loss


def ppo_doubly_robust(outputs: Outputs, batch: Batch, config: Ppo, rollouts: list[Rollout]) -> Tensor:
    """What the policy is predicted to earn, and what logged actions earned beyond the prediction (arXiv 1103.4601).

    The ratio of the second part is clipped around the policy before the step.
    """
    worth = outputs.worth.detach()
    if not rollouts:
        predicted = batch.actions * worth
        if batch.kind == "documents":
            predicted = predicted.sum(dim=1, keepdim=True) + outputs.base.detach()
        rollouts.append(_logged(outputs, batch, batch.rewards - predicted))
    earned = torch.sigmoid(outputs.logits) * worth
    per_reward = earned.sum() / rollouts[0].mask.sum().clamp(min=1)  # a mean over the same as the other part
    return _policy_loss(outputs, rollouts[0], batch, config) - per_reward + _prediction_error(outputs, batch)


def _state_values(outputs: Outputs, kind: Kind) -> Tensor:
    """Return the reward that the policy is predicted to earn: of each label, or of the document, (texts, 1)."""
    expected = (torch.sigmoid(outputs.logits) * outputs.worth).detach()
    return expected if kind == "labels" else expected.sum(dim=1, keepdim=True) + outputs.base.detach()


def _logged(outputs: Outputs, batch: Batch, advantages: Tensor) -> Rollout:
    logprobs = log_prob(outputs.logits.detach(), batch.actions)
    is_of_documents = batch.kind == "documents"
    weights = logprobs.exp() * batch.weights * (2 if is_of_documents else 1)  # rewarded actions
    sharing = torch.full_like(batch.rewarded, is_of_documents)
    return Rollout(
        batch.actions,
        logprobs,
        advantages,
        weights,
        batch.rewarded,
        logged=True,
        rewards_both_actions=is_of_documents,
        sharing=sharing,
    )


def _policy_loss(outputs: Outputs, rollout: Rollout, batch: Batch, config: Ppo) -> Tensor:
    """PPO's loss; the rollout's rewards are advantages."""
    loss, _ = ppo_loss(outputs.logits, rollout.rewards, rollout, rollout.rewards, batch.champion, config)
    return loss


def _prediction_error(outputs: Outputs, batch: Batch) -> Tensor:
    """Squared error of predicted rewards; that of a document is its base and what its labels are worth."""
    if batch.kind == "labels":
        return (((outputs.worth - batch.rewards) ** 2) * batch.rewarded).sum() / batch.rewarded.sum().clamp(min=1)
    predicted = (batch.actions * outputs.worth).sum(dim=1, keepdim=True) + outputs.base
    return ((predicted - batch.rewards[:, :1]) ** 2).mean()


LEARNERS: dict[str, Learner] = {
    "supervised on accepted": Learner(accepted),
    "supervised, by inverse propensity": Learner(by_inverse_propensity),
    "supervised, by size of reward": Learner(by_size),
    "supervised, by both": Learner(by_both),
    "reward regression, greedy": Learner(reward_regression, greedy=True),
    "ppo, off-policy": Learner(ppo_off_policy),
    "ppo, off-policy, doubly robust": Learner(ppo_doubly_robust),
    "ppo, on-policy": Learner(ppo_on_policy),
}
