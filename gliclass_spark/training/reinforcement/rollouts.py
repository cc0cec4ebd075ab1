"""Rollouts of PPO: actions, sampled by the policy or logged, and their rewards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gliclass_spark.config.retraining import NotGiven, Ppo
from gliclass_spark.training.data.feedback_batches import LoggedBatch
from gliclass_spark.training.reinforcement.policy import log_prob, state_values
from gliclass_spark.training.reinforcement.rewards import text_rewards


@dataclass(frozen=True)
class Rollout:
    """The actions of a step, the same in all of its epochs: (texts, labels) each.

    logprobs: log pi_old(a), pi_old the policy at the start of the step. importance_weights: pi_old(a) / b(a) for
    actions that were logged under a behaviour policy b, the weight of the judgement for sampled ones. mask: whether the
    action has a reward. logged: whether the actions were logged. sharing: of logged ones, whether the reward is that of
    all labels of the text together. rewards_both_actions: whether both actions on a label can be rewarded. If not, the
    other one is worth 0, and so is the baseline: one that learns the reward of the rewarded action would cancel it.
    """

    actions: Tensor
    logprobs: Tensor
    rewards: Tensor
    importance_weights: Tensor
    mask: Tensor
    logged: bool
    rewards_both_actions: bool = True
    sharing: Tensor | None = None


def sampled_rollout(
    logits: Tensor, actions: Tensor, targets: Tensor, config: Ppo, weights: Tensor | None = None
) -> Rollout:
    """Return actions of the policy, rewarded by the targets. logits, actions, targets: (texts, labels).

    weights: (texts, labels), how much each target counts, in its text's reward and in the loss.
    """
    rewards = text_rewards(actions, targets, config.reward, weights).unsqueeze(1).expand_as(actions)
    logprobs = log_prob(logits, actions, config.label_smoothing)
    importance_weights = torch.ones_like(actions) if weights is None else weights
    return Rollout(actions, logprobs, rewards, importance_weights, targets >= 0, logged=False)


def logged_rollout(logits: Tensor, batch: LoggedBatch, config: Ppo) -> Rollout:
    """Return the actions and rewards of a batch of logged decisions. logits: (texts, labels), of its first labels."""
    assert batch.actions is not None and batch.inverse_propensities is not None and batch.rewards is not None  # noqa: S101, PT018
    logged_actions, inverse_propensities, rewards = (
        torch.from_numpy(matrix[:, : logits.shape[1]]).to(logits.device)
        for matrix in (batch.actions, batch.inverse_propensities, batch.rewards)
    )
    actions = torch.nan_to_num(logged_actions)
    importance_weights = torch.exp(log_prob(logits, actions)) * torch.nan_to_num(inverse_propensities)
    return Rollout(
        actions,
        log_prob(logits, actions, config.label_smoothing),
        torch.nan_to_num(rewards),
        importance_weights,
        ~torch.isnan(logged_actions),
        logged=True,
        rewards_both_actions=batch.rewards_both_actions,
        sharing=sharing_of(batch, logits),
    )


def sharing_of(batch: LoggedBatch, logits: Tensor) -> Tensor:
    """Return which rewards are those of all labels of a text together, (texts, labels). logits: of its first labels."""
    if batch.sharing is None:
        return torch.zeros_like(logits, dtype=torch.bool)
    return torch.from_numpy(batch.sharing[:, : logits.shape[1]]).to(logits.device)


def baseline(q_values: Tensor, logits: Tensor, rollout: Rollout, not_given: NotGiven) -> Tensor:
    """Return what is subtracted from the rewards of a rollout, (texts, labels): the state's value under the policy.

    It is 0 where one action alone is ever rewarded. The reward of a text is earned by both.
    """
    of_text = state_values(q_values.detach(), logits)
    if not rollout.logged:
        return of_text
    of_label = state_values(q_values.detach(), logits, not_given)
    if not rollout.rewards_both_actions:
        of_label = torch.zeros_like(rollout.rewards)
    return of_label if rollout.sharing is None else torch.where(rollout.sharing, of_text, of_label)
