"""Estimated reward of two models where documents got one reward for all of their labels.

Two models seldom give a document exactly the labels that were rewarded. So the estimate is of the first order: what
each label adds to the document's reward, the others being as they were decided. It chooses between two candidates, and
is no evidence of harm (`gate.set_rewards` is): an unexpected label is given in explored documents alone, whose other
labels are drawn, too, so part of what it seems to add is theirs.
"""

from __future__ import annotations

import numpy as np

from gliclass_spark.labels.thresholds import Mask
from gliclass_spark.retraining.gate.reward_comparison import RewardDifference
from gliclass_spark.training.data.logged_decisions import LoggedDecisions
from gliclass_spark.training.importance_weights import effective_sample_size, largest_weight


def document_reward_difference(decisions: LoggedDecisions, chosen: Mask, other_chosen: Mask) -> RewardDifference | None:
    """Return how much more reward per document the labels `chosen` would have earned than `other_chosen`.

    None if no two documents have different rewards. chosen, other_chosen: the labels that two models give, (documents,
    labels). Giving a label instead of not adds E[w (r - m) s], r a document's reward and m their mean, w the inverse of
    the propensity of the action, clipped and self-normalised to its mean of 2 (two actions), s 1 if the label was given
    and -1 if not. m removes variance and no more: the mean of w s is 0. The standard error is over documents.
    """
    shared, is_shared = decisions.shared_rewards.astype(np.float64), decisions.sharing
    rewards = np.array([row[known][0] for row, known in zip(shared, is_shared, strict=True) if known.any()])
    if len(np.unique(rewards)) < 2:
        return None
    weights = 1.0 / decisions.action_propensities().astype(np.float64)
    weights = np.minimum(weights, largest_weight(weights[is_shared]))
    weights *= 2.0 / weights[is_shared].mean()
    added = np.where(is_shared, weights * (shared - rewards.mean()) * np.where(decisions.actions > 0, 1.0, -1.0), 0.0)
    sums = (added * (chosen.astype(np.float64) - other_chosen)).sum(axis=1)[is_shared.any(axis=1)]
    return RewardDifference(
        float(sums.mean()),
        float(sums.std(ddof=1) / len(sums) ** 0.5),
        int(is_shared.sum()),
        len(sums),
        effective_sample_size(weights[is_shared]),
    )
