"""Rewards of documents' label sets: propensities of the sets, and estimates on simulated logs with a known value."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom
from scored_engine import Scored

from gliclass_spark.config.retraining import GateRules
from gliclass_spark.feedback.exploration import decide, sampling_probabilities
from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import FloatArray, Mask
from gliclass_spark.retraining.gate.gate_comparison import Contender, EvaluationSet
from gliclass_spark.retraining.gate.judge import Finding, judge
from gliclass_spark.retraining.gate.reward_comparison import HarmRule
from gliclass_spark.retraining.gate.set_rewards import (
    missing_set_evidence,
    set_propensities,
    set_reward_difference,
)
from gliclass_spark.training.data.logged_decisions import LoggedDecisions

LABELS = LabelSet.of("a", "b", "c")
SHARE, DOCUMENTS = 0.5, 2000
RULE = HarmRule(0.02, 0.95)


def decided(scores: FloatArray, name: str, share: float = SHARE, labels: LabelSet = LABELS) -> LoggedDecisions:
    """Decisions on documents, without rewards."""
    decisions = decide(scores, [f"{name} {row}".encode() for row in range(len(scores))], labels, share)
    nothing = np.full(scores.shape, np.nan, dtype=np.float32)
    return LoggedDecisions(
        labels,
        tuple(map(str, range(len(scores)))),
        np.full(scores.shape, -1, dtype=np.float32),
        nothing,
        decisions.chosen.astype(np.float32),
        decisions.propensities.astype(np.float32),
        np.ones(len(scores), dtype=bool),
        exploration=share,
    )


def reward(labels: Mask, truth: Mask) -> FloatArray:
    """Return twice the share of right labels among those that a document has or was given, minus 1, (documents,)."""
    either = (labels | truth).sum(axis=1)
    return np.where(either, 2 * (labels & truth).sum(axis=1) / np.maximum(either, 1) - 1, 1.0).astype(np.float32)


def scored(truth: Mask, noise: float, rng: np.random.Generator) -> FloatArray:
    """Return the scores of a model that is right more often the less noise there is."""
    logits = np.where(truth, 1.0, -1.0) + rng.normal(0, noise, truth.shape)
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def log(name: str, rng: np.random.Generator, noise: float, documents: int = DOCUMENTS) -> tuple[LoggedDecisions, Mask]:
    """Return rewarded decisions of a champion with a noise of 1, and the labels that a candidate gives."""
    truth = rng.random((documents, len(LABELS))) < 0.4
    decisions = decided(scored(truth, 1.0, rng), name)
    rewards = reward(decisions.actions > 0, truth)
    return replace(decisions, document_rewards=rewards), scored(truth, noise, rng) >= 0.5


def champion_labels(decisions: LoggedDecisions) -> Mask:
    return decisions.propensities >= 0.5


def gain_of(noise: float) -> float:
    """Return by how much a candidate's reward exceeds the champion's."""
    rng = np.random.default_rng(1)
    truth = rng.random((400_000, len(LABELS))) < 0.4
    candidate, champion = (scored(truth, each, rng) >= 0.5 for each in (noise, 1.0))
    return float(reward(candidate, truth).mean() - reward(champion, truth).mean())


def combinations(labels: LabelSet) -> Iterator[Mask]:
    for combination in itertools.product((False, True), repeat=len(labels)):
        yield np.array([combination])


def test_the_propensities_of_all_label_sets_add_to_one_and_are_those_of_the_exploration() -> None:
    scores = np.array([[0.9, 0.45, 0.02]], dtype=np.float32)
    decisions = replace(decided(scores, "d", 0.1), document_rewards=np.ones(1, dtype=np.float32))
    drawn, reached, total = sampling_probabilities(scores, LABELS), scores >= 0.5, 0.0
    for labels in combinations(LABELS):
        [probability] = set_propensities(replace(decisions, actions=labels.astype(np.float32)))
        expected = 0.9 * (labels == reached).all() + 0.1 * np.where(labels, drawn, 1 - drawn).prod()
        assert probability == pytest.approx(expected, rel=1e-4)
        total += probability
    assert total == pytest.approx(1, abs=1e-5)
    # The product of the labels' propensities is another number where two labels are unexpected.
    unexpected = replace(decisions, actions=np.array([[1, 1, 1]], dtype=np.float32))
    assert set_propensities(unexpected)[0] > 5 * unexpected.propensities.prod()


def test_a_set_whose_propensity_cannot_be_known_counts_as_unknown() -> None:
    scores = np.array([[0.9, 0.4, 0.1]] * 4, dtype=np.float32)
    known = replace(decided(scores, "d", 0.1), document_rewards=np.array([1, 1, np.nan, 1], dtype=np.float32))
    assert np.isnan(set_propensities(known)).tolist() == [False, False, True, False]
    actions, propensities = known.actions.copy(), known.propensities.copy()
    actions[0, 0] = np.nan  # a late signal, or a label that the decision did not know
    propensities[1, 1] = 0.3  # of a larger share
    changed = replace(known, actions=actions, propensities=propensities)
    assert np.isnan(set_propensities(changed)).tolist() == [True, True, True, False]
    assert np.isnan(set_propensities(replace(known, exploration=0.0))).all()
    top = LABELS.model_copy(update={"top_k": 1})
    assert np.isnan(set_propensities(replace(known, label_set=top))).all()
    assert missing_set_evidence(RULE, None, replace(known, label_set=top), "log") == (
        "with top_k the labels of a document are not drawn independently"
    )


def test_a_document_of_a_single_label_set_has_the_propensity_of_its_label() -> None:
    single = LabelSet.of("a", "b", "c", multi_label=False)
    scores = np.array([[0.7, 0.2, 0.1]] * 3, dtype=np.float32)
    decisions = replace(decided(scores, "d", 0.2, single), document_rewards=np.ones(3, dtype=np.float32))
    given = decisions.actions.argmax(axis=1)
    assert set_propensities(decisions).tolist() == pytest.approx(decisions.propensities[range(3), given].tolist())


@pytest.mark.parametrize("noise", [0.6, 2.0])
def test_the_interval_covers_the_true_difference_as_often_as_it_says(noise: float) -> None:
    logs, truth, covered, estimates = 150, gain_of(noise), 0, []
    for seed in range(logs):
        decisions, candidate = log(f"log {seed}", np.random.default_rng(seed), noise)
        difference = set_reward_difference(decisions, candidate, champion_labels(decisions))
        assert difference is not None
        lower, upper = difference.bounds(0.95)  # an interval of 90%
        covered += lower <= truth <= upper
        estimates.append(difference.difference)
    assert covered >= binom.ppf(0.001, logs, 0.9)
    assert np.mean(estimates) == pytest.approx(truth, abs=4 * np.std(estimates) / logs**0.5)


def test_harm_is_shown_and_an_equal_candidate_shows_it_in_one_of_twenty_logs() -> None:
    logs = 100
    assert gain_of(3.0) < -0.2
    for noise, least, most in ((3.0, 0.99 * logs, logs), (1.0, 0, binom.ppf(0.999, logs, 0.05))):
        harmed = 0
        for seed in range(logs):
            decisions, candidate = log(f"other {seed}", np.random.default_rng(seed), noise)
            difference = set_reward_difference(decisions, candidate, champion_labels(decisions))
            assert difference is not None
            assert missing_set_evidence(RULE, difference, decisions, "log") is None
            harmed += replace(RULE, max_loss=0.0).shows_harm(difference)
        assert least <= harmed <= most, noise


def test_too_few_documents_with_the_labels_of_both_models_are_no_verdict() -> None:
    decisions, candidate = log("small", np.random.default_rng(0), 3.0, 200)
    difference = set_reward_difference(decisions, candidate, champion_labels(decisions))
    assert difference is not None
    message = missing_set_evidence(RULE, difference, decisions, "log")
    assert message is not None
    assert message.startswith("too little evidence, ")
    assert message.endswith("at least 30 are needed")
    # Models that give every document the same labels earn the same.
    same = set_reward_difference(decisions, candidate, candidate)
    assert same is not None
    assert (same.difference, same.standard_error, same.effective_sample_size) == (0.0, 0.0, 200.0)
    # No logged document has the candidate's labels: not even the direction is known.
    elsewhere = decisions.where(~(decisions.actions == candidate).all(axis=1))
    kept = ~(decisions.actions == candidate).all(axis=1)
    nowhere = set_reward_difference(elsewhere, candidate[kept], champion_labels(elsewhere))
    assert nowhere is not None
    assert nowhere.effective_sample_size == 0
    equal = replace(decisions, document_rewards=np.ones(200, dtype=np.float32))
    assert set_reward_difference(equal, candidate, ~candidate) is None
    assert missing_set_evidence(RULE, None, equal, "log") == "all documents of the log have the same reward"


def test_the_gate_refuses_by_rewards_of_documents_alone() -> None:
    rng = np.random.default_rng(5)
    truth = rng.random((DOCUMENTS, len(LABELS))) < 0.4
    scores = scored(truth, 1.0, rng)
    decisions = decided(scores, "gate")
    decisions = replace(decisions, document_rewards=reward(decisions.actions > 0, truth))
    golden = EvaluationSet("golden", ("0",), np.ones((1, len(LABELS)), dtype=bool))

    def findings(candidate: FloatArray, feedback: LoggedDecisions) -> list[Finding]:
        contenders = (Contender(Scored(each)) for each in (candidate, scores))  # type: ignore[arg-type]
        verdict = judge(*contenders, LABELS, golden, feedback, GateRules())
        return [finding for finding in verdict.findings if finding.rule == "max_reward_loss"]

    of_documents, of_labels = findings(scored(truth, 3.0, rng), decisions)
    assert of_labels.message.startswith("no evidence about candidate - champion on the newest feedback: ")
    assert not of_documents.passed
    assert "estimated reward per document, candidate - champion on the newest feedback: -0." in of_documents.message
    assert "on which the models differ got the labels of one of them, effective sample size" in of_documents.message
    assert all(finding.passed for finding in findings(scored(truth, 0.6, rng), decisions))
    assert len(findings(scores, replace(decisions, document_rewards=None))) == 1
