"""Rollouts of PPO: actions, sampled by the policy or logged, and their rewards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gliclass_spark.config.retraining import Ppo
from gliclass_spark.training.data.feedback_batches import LoggedBatch
from gliclass_spark.training.policy import log_prob
from gliclass_spark.training.rewards import text_rewards

# Lower bound of the propensity of a logged action: the importance weight stays finite where the log says 0.
_MIN_PROPENSITY = 1e-4


@dataclass(frozen=True)
class Rollout:
    """The actions of a step, the same in all of its epochs: (texts, labels) each.

    logprobs: log pi_old(a), pi_old the policy at the start of the step. importance_weights: pi_old(a) / b(a) for
    actions that were logged under a behaviour policy b, 1 for sampled ones. mask: whether the action has a reward.
    logged: whether the actions were logged.
    """

    actions: Tensor
    logprobs: Tensor
    rewards: Tensor
    importance_weights: Tensor
    mask: Tensor
    logged: bool


def sampled_rollout(logits: Tensor, actions: Tensor, targets: Tensor, config: Ppo) -> Rollout:
    """Return actions of the policy, rewarded by the targets. logits, actions, targets: (texts, labels)."""
    rewards = text_rewards(actions, targets, config.reward).unsqueeze(1).expand_as(actions)
    logprobs = log_prob(logits, actions, config.label_smoothing)
    return Rollout(actions, logprobs, rewards, torch.ones_like(actions), targets >= 0, logged=False)


def logged_rollout(logits: Tensor, batch: LoggedBatch, config: Ppo) -> Rollout:
    """Return the actions and rewards of a batch of logged decisions.

    Importance weights, pi_old(a) / b(a), are at most `config.max_weight`. logits: (texts, labels), of the first
    labels of the batch.
    """
    assert batch.actions is not None and batch.propensities is not None and batch.rewards is not None  # noqa: S101, PT018
    logged_actions, propensities, rewards = (
        torch.from_numpy(matrix[:, : logits.shape[1]]).to(logits.device)
        for matrix in (batch.actions, batch.propensities, batch.rewards)
    )
    actions = torch.nan_to_num(logged_actions)
    behaviour = torch.where(actions > 0, propensities, 1 - propensities).clamp(min=_MIN_PROPENSITY)
    importance_weights = torch.exp(log_prob(logits, actions)) / torch.nan_to_num(behaviour, nan=1.0)
    return Rollout(
        actions,
        log_prob(logits, actions, config.label_smoothing),
        torch.nan_to_num(rewards),
        importance_weights.clamp(max=config.max_weight),
        ~torch.isnan(logged_actions),
        logged=True,
    )
