"""Tests for harm by a model: one by rewards of labels, one by rewards of documents, with the error of one together."""

from __future__ import annotations

from dataclasses import dataclass

from gliclass_spark.labels.thresholds import Mask
from gliclass_spark.retraining.gate.reward_comparison import (
    HarmRule,
    RewardDifference,
    reward_difference,
    with_propensities,
)
from gliclass_spark.retraining.gate.set_rewards import (
    has_rewarded_documents,
    missing_set_evidence,
    set_reward_difference,
)
from gliclass_spark.training.data.logged_decisions import LoggedDecisions


@dataclass(frozen=True)
class HarmTest:
    """A difference in reward, and the rule by which it shows harm.

    per: what the reward is of, "decision" or "document". missing: why there is no evidence; None if there is.
    """

    per: str
    rule: HarmRule
    difference: RewardDifference | None
    missing: str | None

    @property
    def shows_harm(self) -> bool:
        return self.difference is not None and self.missing is None and self.rule.shows_harm(self.difference)

    def describe(self, compared: str, consequence: str) -> str:
        """Return the measured difference and the limit, in one line; what is missing, without evidence."""
        if self.difference is None or self.missing is not None:
            return f"no evidence about {compared}: {self.missing}"
        return (
            f"estimated reward per {self.per}, {compared}: {self.rule.describe(self.difference)}; {consequence} if the "
            f"upper end is below {-self.rule.max_loss:+.3f}"
        )


def harm_tests(
    rule: HarmRule, feedback: LoggedDecisions, chosen: Mask, other_chosen: Mask, name: str
) -> tuple[HarmTest, ...]:
    """Return the tests that the feedback of this name allows, those with evidence first.

    chosen, other_chosen: the labels that the model and the other give, (documents, labels). If both tests have
    evidence, each has half of the rule's error (Bonferroni). Documents are left out if none has a reward of its own.
    """
    reward = reward_difference(with_propensities(feedback), chosen, other_chosen)
    tests = [HarmTest("decision", rule, reward, rule.missing_evidence(reward, feedback, name))]
    if has_rewarded_documents(feedback):
        of_sets = set_reward_difference(feedback, chosen, other_chosen)
        tests.append(HarmTest("document", rule, of_sets, missing_set_evidence(rule, of_sets, feedback, name)))
    conclusive = sum(test.missing is None for test in tests)
    each = rule.one_of(max(conclusive, 1))
    tests = [HarmTest(test.per, each, test.difference, test.missing) for test in tests]
    return tuple(sorted(tests, key=lambda test: test.missing is not None))
