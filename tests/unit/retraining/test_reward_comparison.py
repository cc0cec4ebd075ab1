"""The estimated reward on logged decisions: by hand, and as a veto over simulated feedback on given labels alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scored_engine import Scored

from gliclass_spark.config.retraining import GateRules
from gliclass_spark.feedback.exploration import decide
from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import Mask
from gliclass_spark.retraining.gate.f1_statistics import macro_f1
from gliclass_spark.retraining.gate.gate_comparison import Contender, EvaluationSet
from gliclass_spark.retraining.gate.judge import Finding, judge
from gliclass_spark.retraining.gate.reward_comparison import reward_difference, with_propensities
from gliclass_spark.training.data.logged_decisions import LoggedDecisions

LABELS = LabelSet.of(*"abcdef")
DOCUMENTS = 600
DRAWS = 8


def model(truth: Mask, recall: float, false_rate: float, rng: np.random.Generator) -> Scored:
    """An engine that finds this share of the labels, and gives this share of the others."""
    uniform = rng.random(truth.shape)
    given = np.where(truth, uniform < recall, uniform < false_rate)
    return Scored(np.where(given, 0.5 + uniform * 0.4, 0.05 + uniform * 0.4).astype(np.float32))


def feedback(truth: Mask, champion: Scored, exploration: float) -> LoggedDecisions:
    """Verdicts on the labels that documents were given, and on no others."""
    texts = tuple(str(row) for row in range(len(truth)))
    decided = decide(champion.scores(texts, LABELS), [text.encode() for text in texts], LABELS, exploration)
    unknown = np.full(truth.shape, np.nan, dtype=np.float32)
    return LoggedDecisions(
        LABELS,
        texts,
        np.where(decided.chosen, truth, -1).astype(np.float32),
        unknown,
        decided.chosen.astype(np.float32),
        decided.propensities.astype(np.float32) if exploration else unknown,
        held_out=np.ones(len(truth), dtype=bool),
    )


def veto(candidate: Scored, champion: Scored, logged: LoggedDecisions) -> Finding:
    golden = EvaluationSet("golden", ("0",), np.ones((1, len(LABELS)), dtype=bool))
    verdict = judge(Contender(candidate), Contender(champion), LABELS, golden, logged, GateRules())  # type: ignore[arg-type]
    [finding] = [each for each in verdict.findings if each.rule == "max_reward_loss"]
    return finding


@pytest.mark.parametrize("exploration", [0.0, 0.02, 0.1])
def test_a_far_better_candidate_is_never_refused_on_feedback_about_the_champions_labels(exploration: float) -> None:
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        truth = rng.random((DOCUMENTS, len(LABELS))) < 0.2
        champion, candidate = model(truth, 0.25, 0.01, rng), model(truth, 0.7, 0.03, rng)
        logged = feedback(truth, champion, exploration)
        given = [engine.scores(logged.texts, LABELS) >= 0.5 for engine in (champion, candidate)]
        before, after = (float(macro_f1(each, truth)) for each in given)
        assert after - before > 0.3
        finding = veto(candidate, champion, logged)
        assert finding.passed, finding.message
        assert ("no decision of the newest feedback has a propensity" in finding.message) == (exploration == 0)


def test_a_harmful_candidate_is_refused_and_the_message_has_the_evidence() -> None:
    refused = 0
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        truth = rng.random((DOCUMENTS, len(LABELS))) < 0.2
        champion, candidate = model(truth, 0.75, 0.05, rng), model(truth, 0.35, 0.25, rng)
        logged = feedback(truth, champion, 0.1)
        finding = veto(candidate, champion, logged)
        refused += not finding.passed
        assert f"{int(logged.judged.sum())} judged decisions of" in finding.message
        assert "effective sample size" in finding.message
    assert refused == DRAWS


def test_an_equal_candidate_is_seldom_refused() -> None:
    refused = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        truth = rng.random((DOCUMENTS, len(LABELS))) < 0.2
        champion, candidate = (model(truth, 0.6, 0.1, rng) for _ in range(2))
        refused += not veto(candidate, champion, feedback(truth, champion, 0.1)).passed
    assert refused <= 4


def logged(**changed: list[list[float]]) -> LoggedDecisions:
    nan = np.nan
    fields = {
        "targets": [[1, 0], [0, -1]],
        "rewards": [[nan, nan], [nan, 0.5]],
        "actions": [[1, 1], [1, 1]],
        "propensities": [[1, 0.5], [1, 0.25]],
        **changed,
    }
    arrays = {name: np.array(value, dtype=np.float32) for name, value in fields.items()}
    return LoggedDecisions(LabelSet.of("x", "y"), ("0", "1"), **arrays, held_out=np.ones(2, dtype=bool))


ALL, NONE = np.ones((2, 2), dtype=bool), np.zeros((2, 2), dtype=bool)


def test_the_difference_is_weighted_by_inverse_propensity() -> None:
    difference = reward_difference(logged(), ALL, NONE)
    assert difference is not None
    # Rewards of giving 1, -1, -1 and 0.5, with the weights 1, 2, 1 and 4.
    assert difference.difference == pytest.approx((1 - 2 - 1 + 4 * 0.5) / 8)
    assert (difference.decisions, difference.documents) == (4, 2)
    assert difference.effective_sample_size == pytest.approx(8**2 / (1 + 4 + 1 + 16))
    same = reward_difference(logged(), ALL, ALL)
    assert same is not None
    assert (same.difference, same.standard_error) == (0, 0)


def test_feedback_of_one_sign_alone_is_no_evidence() -> None:
    """Clicks say nothing about the labels that nobody clicked on, complaints nothing about those that are right."""
    clicked = logged(targets=[[-1, -1], [-1, -1]], rewards=[[1, np.nan], [np.nan, 0.5]])
    assert reward_difference(clicked, NONE, ALL) is None
    lost = reward_difference(clicked, NONE, ALL, "zero")
    assert lost is not None
    assert lost.difference == pytest.approx(-(1 + 4 * 0.5) / 5)
    # Corrections of labels that were missing, beside reviews of those that were given.
    corrected = logged(targets=[[1, 0], [1, 1]], rewards=[[np.nan] * 2] * 2, actions=[[1, 1], [0, 0]])
    difference = reward_difference(corrected, NONE, ALL)
    assert difference is not None
    assert difference.decisions == 2


def test_decisions_without_propensities_or_about_earlier_ones_do_not_count() -> None:
    late = logged(actions=[[np.nan, 1], [1, 1]])
    difference = reward_difference(late, ALL, NONE)
    assert difference is not None
    assert difference.decisions == 3
    assert reward_difference(with_propensities(logged(propensities=[[np.nan] * 2] * 2)), ALL, NONE) is None
    some = with_propensities(replace(logged(), propensities=np.array([[1, 0.5], [np.nan, np.nan]], dtype=np.float32)))
    difference = reward_difference(some, ALL, NONE)
    assert difference is not None
    assert difference.decisions == 2
