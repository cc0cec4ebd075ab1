"""Estimated reward of two models where documents got one reward for all of their labels: is there evidence of harm?

A reward says how good the labels of a document are together, so it counts for a model that gives exactly these labels,
and for no other. Only documents on which the two models differ say anything about the difference, and of these only the
ones that were decided as one of the models would: with little exploration they are few, and there is no evidence. Which
documents are rewarded must not depend on the labels that they got.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.labels.thresholds import Mask
from gliclass_spark.retraining.gate.reward_comparison import HarmRule, RewardDifference
from gliclass_spark.training.data.logged_decisions import LoggedDecisions
from gliclass_spark.training.importance_weights import effective_sample_size, largest_weight

FloatArray64 = NDArray[np.float64]

# Of a sampling probability that is computed from logged propensities, which were rounded to float32.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class SetRewardDifference(RewardDifference):
    """The difference in reward per document between a model and another, in [-2, 2].

    documents: those on which the models differ. decisions: those of them that got the labels of one of the models.
    effective_sample_size: of the model for which it is smaller; the number of all documents if the models never differ.
    """

    @property
    def counts(self) -> str:
        return (
            f"{self.decisions} of {self.documents} documents on which the models differ got the labels of one of them, "
            f"effective sample size {self.effective_sample_size:.0f}"
        )


def set_reward_difference(decisions: LoggedDecisions, chosen: Mask, other_chosen: Mask) -> SetRewardDifference | None:
    """Return how much more reward per document the label sets `chosen` would have earned than `other_chosen`.

    None if no two documents with known `set_propensities` have different rewards. chosen, other_chosen: the labels that
    two models give, (documents, labels).

    With D the documents on which the models differ, a share d of all, and A the logged label sets, it is d (V - V'),
    V = sum over D of w r / sum over D of w, w = [chosen = A] / P(A), and V' alike: self-normalised inverse propensity
    (Swaminathan and Joachims, NIPS 2015, eq. 5) with a deterministic policy over label sets. Where the models agree
    they earn the same, whatever that is, and add nothing but noise. The weights of each model are clipped by their
    effective sample size (`largest_weight`). The standard error is that over documents (delta method).
    """
    propensities = set_propensities(decisions)
    is_known = ~np.isnan(propensities)
    rewards = _document_rewards(decisions)[is_known]
    if len(np.unique(rewards)) < 2:
        return None
    chosen, other_chosen = chosen[is_known], other_chosen[is_known]
    differs, count = (chosen != other_chosen).any(axis=1), len(rewards)
    differing = int(differs.sum())
    if not differing:
        return SetRewardDifference(0.0, 0.0, 0, 0, float(count))
    actions, weights = decisions.actions[is_known] > 0, 1.0 / propensities[is_known]
    matches = [differs & (labels == actions).all(axis=1) for labels in (chosen, other_chosen)]
    matching = int(sum(match.sum() for match in matches))
    if not all(match.any() for match in matches):
        return SetRewardDifference(0.0, 0.0, matching, differing, 0.0)
    value, other = (_value(rewards, weights, match) for match in matches)
    share, difference = float(differs.mean()), value.mean - other.mean
    influences = share * (value.influences - other.influences) + (differs - share) * difference / count
    standard_error = float(np.sqrt((influences**2).sum() * count / (count - 1)))
    size = min(value.effective_sample_size, other.effective_sample_size)
    return SetRewardDifference(share * difference, standard_error, matching, differing, size)


@dataclass(frozen=True)
class _Value:
    """The mean reward of one model where it differs from the other; influences: of each document on it."""

    mean: float
    influences: FloatArray64
    effective_sample_size: float


def _value(rewards: FloatArray64, weights: FloatArray64, match: Mask) -> _Value:
    """Return the self-normalised mean of the rewards of the matching documents, with clipped weights."""
    clipped = np.where(match, np.minimum(weights, largest_weight(weights[match])), 0.0)
    mean = float((clipped * rewards).sum() / clipped.sum())
    return _Value(mean, clipped * (rewards - mean) / clipped.sum(), effective_sample_size(clipped[match]))


def set_propensities(decisions: LoggedDecisions) -> FloatArray64:
    """Return the probability that each document got exactly its labels, (documents,).

    NaN for documents without a reward of their own, or with an unknown action or propensity; and where the propensities
    are none of the present exploration share, or labels beyond `top_k` were dropped, so that it can't be computed.

    Labels of a document are not given independently: all of them are drawn, or none. The product over labels of their
    propensities would be wrong by a factor of up to 1 / share for each unexpected label. With the share e of explored
    documents, the labels R that thresholds give, and q the probability that a label is drawn (`feedback.exploration`),
    a propensity is p = (1 - e) [label in R] + e q, so q follows from p, and

        P(A) = (1 - e) [A = R] + e prod(q if in A, else 1 - q)

    A document of a single-label set gets one label, with its propensity.
    """
    label_set, share = decisions.label_set, decisions.exploration
    actions, propensities = decisions.actions > 0, decisions.propensities.astype(np.float64)
    is_known = ~np.isnan(_document_rewards(decisions))
    is_known &= ~(np.isnan(decisions.actions) | np.isnan(propensities)).any(axis=1)
    if not label_set.multi_label:
        is_known &= actions.sum(axis=1) == 1
        probability = np.where(actions, propensities, 0.0).sum(axis=1)
    elif label_set.top_k is not None or not share:
        return np.full(len(decisions), np.nan)
    else:
        reached = propensities >= 0.5
        drawn = (propensities - (1.0 - share) * reached) / share
        # A label is drawn with more than one half exactly if it reaches its threshold.
        is_known &= ((drawn >= 0.5 - _TOLERANCE) == reached).all(axis=1)
        is_known &= ((drawn >= -_TOLERANCE) & (drawn <= 1.0 + _TOLERANCE)).all(axis=1)
        drawn = np.clip(drawn, 0.0, 1.0)
        by_thresholds = (actions == reached).all(axis=1)
        probability = (1.0 - share) * by_thresholds + share * np.where(actions, drawn, 1.0 - drawn).prod(axis=1)
    return np.where(is_known & (probability > 0), probability, np.nan)


def missing_set_evidence(
    rule: HarmRule, reward: SetRewardDifference | None, decisions: LoggedDecisions, name: str
) -> str | None:
    """Return why the rewards of documents in the feedback of this name show nothing; None if they are enough."""
    if reward is None:
        if decisions.label_set.multi_label and decisions.label_set.top_k is not None:
            return "with top_k the labels of a document are not drawn independently"
        if np.isnan(set_propensities(decisions)).all():
            return (
                f"no rewarded document of the {name} has propensities of all labels by the present share; set "
                "`exploration` in the pipeline"
            )
        return f"all documents of the {name} have the same reward"
    if reward.effective_sample_size < rule.min_effective_decisions:
        return f"too little evidence, {reward.counts}, at least {rule.min_effective_decisions} are needed"
    return None


def has_rewarded_documents(decisions: LoggedDecisions) -> bool:
    """Return whether a document has one reward for all of its labels."""
    return not bool(np.isnan(_document_rewards(decisions)).all())


def _document_rewards(decisions: LoggedDecisions) -> FloatArray64:
    if decisions.document_rewards is None:
        return np.full(len(decisions), np.nan)
    return decisions.document_rewards.astype(np.float64)
