"""Estimated reward of two models on logged decisions: is there evidence that one of them does harm?

Feedback is mostly about labels that the champion gave, so a metric such as F1 on it favours the champion: of the labels
that it missed few are known. The estimate here is of what the two models would earn where they differ. A decision
counts by the inverse of its propensity, so that the few explored ones stand in for all that were not explored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from gliclass_spark.config.retraining import NotGiven
from gliclass_spark.labels.thresholds import Mask
from gliclass_spark.training.data.logged_decisions import LoggedDecisions
from gliclass_spark.training.importance_weights import effective_sample_size

FloatArray64 = NDArray[np.float64]


@dataclass(frozen=True)
class RewardDifference:
    """The difference in reward per decision between a model and another, in [-2, 2].

    standard_error: over documents. decisions, documents: how many the estimate is of. effective_sample_size: number of
    decisions of equal weight with the same variance.
    """

    difference: float
    standard_error: float
    decisions: int
    documents: int
    effective_sample_size: float

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Return the lower and the upper bound, each one-sided at this confidence."""
        margin = float(ndtri(confidence)) * self.standard_error
        return self.difference - margin, self.difference + margin

    @property
    def counts(self) -> str:
        """What the estimate is of, in a few words."""
        return (
            f"{self.decisions} judged decisions of {self.documents} documents, effective sample size "
            f"{self.effective_sample_size:.0f}"
        )


@dataclass(frozen=True)
class HarmRule:
    """When a difference in reward is evidence of harm: its upper bound, at `confidence`, is below `-max_loss`.

    min_effective_decisions: with a smaller effective sample size, the normal approximation of the estimate's error is
    not to be trusted, and there is no evidence.
    """

    max_loss: float
    confidence: float
    min_effective_decisions: int = 30

    def one_of(self, tests: int) -> HarmRule:
        """Return the rule for each of several tests, of which one that shows harm is enough (Bonferroni)."""
        return replace(self, confidence=1.0 - (1.0 - self.confidence) / tests)

    def missing_evidence(self, reward: RewardDifference | None, feedback: LoggedDecisions, name: str) -> str | None:
        """Return why the feedback of this name shows nothing; None if it is enough."""
        if reward is None:
            return (
                f"no decision of the {name} has a propensity; set `exploration` in the pipeline"
                if not feedback.explored
                else f"the {name} has no right and wrong decisions to compare"
            )
        if reward.effective_sample_size < self.min_effective_decisions:
            return f"{reward.counts}, at least {self.min_effective_decisions} are needed"
        return None

    def shows_harm(self, reward: RewardDifference) -> bool:
        """Return whether a difference that is evidence shows harm."""
        return reward.bounds(self.confidence)[1] < -self.max_loss

    def describe(self, reward: RewardDifference) -> str:
        """Return the difference with its bounds, and how many decisions it is of."""
        lower, upper = reward.bounds(self.confidence)
        return f"{reward.difference:+.3f} ({lower:+.3f} to {upper:+.3f}; {reward.counts})"


def reward_difference(
    decisions: LoggedDecisions, chosen: Mask, other_chosen: Mask, not_given: NotGiven = "unknown"
) -> RewardDifference | None:
    """Return how much more reward the labels `chosen` would have earned than `other_chosen`; None without evidence.

    chosen, other_chosen: the labels that two models give, (documents, labels). The self-normalised inverse-propensity
    estimate of the difference: sum(w r (chosen - other_chosen)) / sum(w), over decisions with known reward r of giving
    the label, with w = 1 / propensity of the action that was taken. The other model's reward is subtracted decision by
    decision, so that only those where the two differ add variance. Its standard error is that of a ratio of sums over
    documents (delta method).

    not_given: with "unknown", feedback of one sign alone about one of the two actions is left out: where only mistakes
    are reported, or only successes, it says nothing about what was not reported. With "zero" it counts, as what was not
    reported earned nothing.
    """
    rewards = _rewards_of_giving(decisions, not_given)
    propensities = decisions.action_propensities().astype(np.float64)
    known = ~np.isnan(rewards)
    if not known.any():
        return None
    weights = np.divide(1.0, propensities, out=np.zeros_like(propensities), where=known)
    changes = chosen.astype(np.float64) - other_chosen
    sums = (weights * np.nan_to_num(rewards) * changes).sum(axis=1)
    totals = weights.sum(axis=1)
    difference = float(sums.sum() / totals.sum())
    documents = int(known.any(axis=1).sum())
    residuals = sums - difference * totals
    variance = float((residuals**2).sum()) * documents / max(documents - 1, 1)
    return RewardDifference(
        difference,
        float(np.sqrt(variance) / totals.sum()),
        int(known.sum()),
        documents,
        effective_sample_size(weights[known]),
    )


def with_propensities(decisions: LoggedDecisions) -> LoggedDecisions:
    """Return the decisions without the rewards and targets of those whose propensity is unknown."""
    taken = np.where(decisions.actions > 0, decisions.propensities, 1 - decisions.propensities)
    unknown = ~(taken > 0)  # also of an action that the log says was impossible
    targets = np.where(unknown, np.float32(-1), decisions.targets)
    rewards = np.where(unknown, np.float32(np.nan), decisions.rewards)
    return replace(decisions, targets=targets, rewards=rewards)


def _rewards_of_giving(decisions: LoggedDecisions, not_given: NotGiven) -> FloatArray64:
    """Return what giving the label earns against not giving it, (documents, labels); NaN where it is unknown.

    It is the logged reward where the label was given, and 1 or -1 where a verdict says whether the label holds.
    """
    verdicts = np.where(decisions.targets >= 0, 2.0 * decisions.targets - 1.0, np.nan)
    given = decisions.actions > 0
    rewards: FloatArray64 = np.where(given & decisions.rewarded, decisions.rewards, verdicts).astype(np.float64)
    rewards[np.isnan(decisions.actions)] = np.nan  # late signals: the action that was taken is unknown
    for action in (given, ~given) if not_given == "unknown" else ():
        signs = np.sign(rewards[action & ~np.isnan(rewards)])
        if not ((signs > 0).any() and (signs < 0).any()):
            rewards[action] = np.nan
    return rewards
