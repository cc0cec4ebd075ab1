"""The gate: its metrics by hand, and each of its rules alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from gliclass_spark.config.retraining import GateRules
from gliclass_spark.labels import Label, LabelSet
from gliclass_spark.retraining.gate.f1_statistics import macro_f1
from gliclass_spark.retraining.gate.gate_comparison import (
    Contender,
    EvaluationSet,
    GateComparison,
    assign_labels,
    compare,
)
from gliclass_spark.retraining.gate.judge import GateVerdict, judge
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.data.logged_decisions import LoggedDecisions

LABELS = LabelSet.of("cat", "dog", "owl", name="animals")
TEXTS = tuple(f"{number}" for number in range(40))
TRUTH = np.random.default_rng(0).random((40, 3)) < 0.4
GOLDEN = LabelledSet("g", ("owl", "cat", "dog"), TEXTS, tuple(tuple(np.flatnonzero(row[[2, 0, 1]])) for row in TRUTH))
LABELLED = [row for row in range(40) if TRUTH[row].any()]
RETENTION = LabelledSet(
    "retention",
    LABELS.names,
    tuple(TEXTS[row] for row in LABELLED),
    tuple(tuple(np.flatnonzero(TRUTH[row])) for row in LABELLED),
)
LENIENT = GateRules(
    max_f1_loss=1,
    max_label_loss=1,
    max_calibration_loss=1,
    max_slowdown=1e9,
    min_agreement=0,
    max_forgetting=1,
    min_label_texts=1,
)


class Fixed:
    """An engine whose scores for text n are row n of the truth, with some labels flipped."""

    def __init__(self, flipped: Sequence[tuple[int, int]] = (), confidence: float = 0.9) -> None:
        right = TRUTH.copy()
        for at in flipped:
            right[at] = ~right[at]
        self._scores = np.where(right, confidence, 1 - confidence).astype(np.float32)

    def scores(self, texts: Sequence[str], labels: LabelSet) -> np.ndarray:
        return self._scores[[int(text) for text in texts]]

    def logits(self, texts: Sequence[str], labels: LabelSet) -> np.ndarray:
        scores = self.scores(texts, labels)
        return np.log(scores / (1 - scores))


def no_feedback() -> LoggedDecisions:
    nothing = np.empty((0, 3), dtype=np.float32)
    return LoggedDecisions(LABELS, (), *[nothing] * 4, held_out=np.empty(0, dtype=bool))


def compared(candidate: Any, champion: Any, **more: Any) -> GateComparison:
    return compare(Contender(candidate), Contender(champion), LABELS, golden(), **more)


def judged(
    candidate: Any, rules: GateRules, retention: Sequence[LabelledSet] = (), feedback: LoggedDecisions | None = None
) -> GateVerdict:
    feedback = no_feedback() if feedback is None else feedback
    return judge(Contender(candidate), Contender(Fixed()), LABELS, golden(), feedback, rules, retention)


def golden() -> EvaluationSet:
    return EvaluationSet.of_labelled(GOLDEN, LABELS)


def test_the_golden_set_has_the_order_of_the_label_set() -> None:
    np.testing.assert_array_equal(golden().targets, TRUTH)


def test_macro_f1_is_that_of_scikit_learn_where_all_targets_are_known() -> None:
    scores = Fixed([(0, 0), (1, 1), (2, 1), (3, 2)]).scores(TEXTS, LABELS)
    assert macro_f1(assign_labels(scores, LABELS), TRUTH) == pytest.approx(
        f1_score(TRUTH, scores >= 0.5, average="macro")
    )


def test_a_single_label_set_gives_the_best_label() -> None:
    scores = np.array([[0.2, 0.3, 0.1], [0.9, 0.8, 0.1]], dtype=np.float32)
    assert assign_labels(scores, LabelSet.of("a", "b", "c", multi_label=False)).argmax(axis=1).tolist() == [1, 0]
    assert assign_labels(scores, LabelSet.of("a", "b", "c")).tolist() == [[False] * 3, [True, True, False]]


@pytest.mark.parametrize("multi_label", [True, False])
def test_a_text_without_scores_is_given_no_label_at_any_threshold(multi_label: bool) -> None:
    label_set = LABELS.model_copy(update={"multi_label": multi_label, "threshold": 0.0})
    scores = np.array([[np.nan] * 3, [0.1, 0.2, 0.7]], dtype=np.float32)
    assert assign_labels(scores, label_set).any(axis=1).tolist() == [False, True]


def test_top_k_keeps_the_best_labels() -> None:
    scores = np.array([[0.6, 0.9, 0.8], [0.1, 0.6, 0.2]], dtype=np.float32)
    assigned = assign_labels(scores, LABELS.model_copy(update={"top_k": 2}))
    assert assigned.tolist() == [[False, True, True], [False, True, False]]


def test_the_interval_of_the_gain_contains_it_and_is_0_for_the_same_model() -> None:
    comparison = compared(Fixed(), Fixed([(row, row % 3) for row in range(20)]))
    low, high = comparison.f1_interval
    assert 0 < low < comparison.f1_gain < high
    assert comparison.agreement == 0.5
    same = compared(Fixed(), Fixed())
    assert (same.f1_interval, same.agreement, same.f1_gain) == ((0.0, 0.0), 1.0, 0.0)


def test_a_model_with_a_calibration_is_judged_by_one_that_was_not_fitted_to_the_same_text() -> None:
    """Scores of .3 for what holds: by thresholds of .5 such a model gives no label, by fitted ones the right ones."""

    class Shy(Fixed):
        def scores(self, texts: Sequence[str], labels: LabelSet) -> np.ndarray:
            return super().scores(texts, labels) / 3

    own = LABELS.calibrated_by(LabelSet(labels=tuple(Label(name=name, threshold=0.9) for name in LABELS.names)))
    uncalibrated, calibrated = (
        compare(Contender(Shy(), calibration), Contender(Fixed()), LABELS, golden()) for calibration in (None, own)
    )
    assert uncalibrated.candidate.macro_f1 == 0
    assert calibrated.candidate.macro_f1 == 1
    # What the pipeline's own file says comes before the model's.
    strict = LABELS.model_copy(update={"threshold": 0.95, "temperature": 1.0, "bias": 0.0})
    assert compare(Contender(Shy(), own), Contender(Fixed()), strict, golden()).candidate.macro_f1 == 0


@pytest.mark.parametrize("texts", [1, 2])
def test_a_model_is_judged_by_its_own_calibration_if_the_golden_set_has_too_few_texts_to_fit_another(
    texts: int,
) -> None:
    rows = LABELLED[:texts]
    few = EvaluationSet("golden", tuple(TEXTS[row] for row in rows), TRUTH[rows])
    own = LABELS.calibrated_by(LabelSet(labels=tuple(Label(name=name, threshold=0.95) for name in LABELS.names)))
    comparison = compare(Contender(Fixed(), own), Contender(Fixed()), LABELS, few)
    assert (comparison.candidate.macro_f1, comparison.champion.macro_f1) == (0, 1)


WORSE = [(row, 1) for row in range(12)]


@pytest.mark.parametrize(
    ("rule", "value", "candidate"),
    [
        ("max_f1_loss", 0.02, Fixed(WORSE)),
        ("min_f1_gain", -0.01, Fixed(WORSE)),
        ("max_label_loss", 0.1, Fixed(WORSE)),
        ("max_calibration_loss", 0.05, Fixed(confidence=0.55)),
        ("max_slowdown", 1e-9, Fixed()),
        ("min_agreement", 0.9, Fixed(WORSE)),
        ("max_forgetting", 0.05, Fixed(WORSE)),
    ],
)
def test_each_rule_refuses_alone_and_its_message_has_both_sides(rule: str, value: float, candidate: Any) -> None:
    assert judged(candidate, LENIENT, [RETENTION]).promoted
    verdict = judged(candidate, LENIENT.model_copy(update={rule: value}), [RETENTION])
    assert not verdict.promoted
    [failed] = [finding for finding in verdict.findings if not finding.passed]
    assert failed.rule == rule
    assert "at most" in failed.message or "at least" in failed.message


def test_a_label_with_few_texts_is_exempt_from_max_label_loss() -> None:
    strict = LENIENT.model_copy(update={"max_label_loss": 0.1, "min_label_texts": 41})
    verdict = judged(Fixed(WORSE), strict)
    assert verdict.promoted
    assert any("no label has 41 texts" in finding.message for finding in verdict.findings)


def test_a_loss_within_chance_refuses_under_cautious_rules_alone() -> None:
    """Of 8 errors that differ, 5 are the candidate's: as many or more in 36% of the cases by chance."""
    better_and_worse = Fixed([(row, 1) for row in range(5)]), Fixed([(row, 1) for row in range(20, 23)])
    findings = {
        preset: judge(
            *map(Contender, better_and_worse), LABELS, golden(), no_feedback(), GateRules(preset=preset)
        ).findings
        for preset in ("normal", "cautious")
    }
    failed = {preset: [each.rule for each in all_of if not each.passed] for preset, all_of in findings.items()}
    slow = {"max_slowdown"}  # of engines that take microseconds
    assert set(failed["normal"]) <= slow
    assert set(failed["cautious"]) - slow == {"min_f1_gain"}


def test_a_preset_gives_the_defaults_and_stated_keys_come_first() -> None:
    cautious = GateRules.model_validate("cautious")
    assert (cautious.min_f1_gain, cautious.max_label_loss) == (-0.02, 0.05)
    assert GateRules.model_validate("normal") == GateRules()
    mixed = GateRules.model_validate({"preset": "cautious", "max_label_loss": 0.2})
    assert (mixed.min_f1_gain, mixed.max_label_loss) == (-0.02, 0.2)
    with pytest.raises(ValueError, match="normal"):
        GateRules.model_validate("careful")
