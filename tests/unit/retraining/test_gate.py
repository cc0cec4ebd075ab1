"""The gate: its metrics by hand, and each of its rules alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from gliclass_spark.config.retraining import GateRules
from gliclass_spark.labels import LabelSet
from gliclass_spark.retraining.gate import judge
from gliclass_spark.retraining.gate_comparison import EvaluationSet, assign_labels, compare, is_better, macro_f1
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
    min_f1_gain=-1,
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

    logits = scores


def golden() -> EvaluationSet:
    return EvaluationSet.of_labelled(GOLDEN, LABELS)


def test_the_golden_set_has_the_order_of_the_label_set() -> None:
    np.testing.assert_array_equal(golden().targets, TRUTH.astype(np.float32))


def test_macro_f1_is_that_of_scikit_learn_where_all_targets_are_known() -> None:
    scores = Fixed([(0, 0), (1, 1), (2, 1), (3, 2)]).scores(TEXTS, LABELS)
    assert macro_f1(assign_labels(scores, LABELS), golden()) == pytest.approx(
        f1_score(TRUTH, scores >= 0.5, average="macro")
    )


def test_unknown_targets_do_not_count() -> None:
    golden_set = golden()
    targets = golden_set.targets.copy()
    targets[0, 0] = -1
    partial = EvaluationSet("partial", TEXTS, targets, golden_set.weights)
    right, wrong = (Fixed(turned).scores(TEXTS, LABELS) >= 0.5 for turned in ([], [(0, 0)]))
    assert macro_f1(wrong, partial) == macro_f1(right, partial) == 1.0
    assert macro_f1(wrong, golden_set) < 1.0


def test_a_label_counts_by_its_weight() -> None:
    judged = EvaluationSet(
        "x", ("0", "1"), np.array([[1], [1]], dtype=np.float32), np.array([[3], [1]], dtype=np.float32)
    )
    assert macro_f1(np.array([[True], [False]]), judged) == pytest.approx(6 / 7)


def test_the_calibration_error_is_weighted() -> None:
    overconfident, golden_set = Fixed([(0, 0)], confidence=1.0), golden()
    weights = golden_set.weights.copy()
    weights[0, 0] = 5
    weighed = EvaluationSet("weighed", TEXTS, golden_set.targets, weights)
    qualities = [compare(overconfident, Fixed(), LABELS, each).candidate for each in (golden_set, weighed)]
    expected = [1 / weights.size, 5 / (weights.size + 4)]
    assert [each.calibration_error for each in qualities] == pytest.approx(expected, rel=1e-5)


def test_feedback_has_known_targets_with_inverse_propensity_weights() -> None:
    nan = np.nan
    decisions = LoggedDecisions(
        LABELS,
        ("a", "b"),
        np.array([[1, 0, -1], [-1, -1, -1]], dtype=np.float32),
        np.full((2, 3), nan, dtype=np.float32),
        np.array([[1, 0, nan], [1, 1, 1]], dtype=np.float32),
        np.array([[0.5, 0.75, nan], [0.1, 0.1, 0.1]], dtype=np.float32),
        np.ones(2, dtype=bool),
    )
    judged = EvaluationSet.of_decisions(decisions, max_weight=3)
    assert judged.texts == ("a",)
    assert judged.weights.tolist() == [[2, 3, 1]]


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
    comparison = compare(Fixed(), Fixed([(row, row % 3) for row in range(20)]), LABELS, golden())
    low, high = comparison.f1_interval
    assert 0 < low < comparison.f1_gain < high
    assert comparison.agreement == 0.5
    same = compare(Fixed(), Fixed(), LABELS, golden())
    assert (same.f1_interval, same.agreement, same.f1_gain) == ((0.0, 0.0), 1.0, 0.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    one, other = (compare(Fixed([(1, 1)]), Fixed([(2, 2)]), LABELS, golden(), seed=3) for _ in range(2))
    assert one == other


WORSE = [(row, 1) for row in range(12)]


@pytest.mark.parametrize(
    ("rule", "value", "candidate"),
    [
        ("min_f1_gain", -0.01, Fixed(WORSE)),
        ("max_label_loss", 0.1, Fixed(WORSE)),
        ("max_calibration_loss", 0.05, Fixed(confidence=0.55)),
        ("max_slowdown", 1e-9, Fixed()),
        ("min_agreement", 0.9, Fixed(WORSE)),
        ("max_forgetting", 0.05, Fixed(WORSE)),
    ],
)
def test_each_rule_refuses_alone_and_its_message_has_both_sides(rule: str, value: float, candidate: Any) -> None:
    assert judge(candidate, Fixed(), LABELS, [golden()], LENIENT, [RETENTION]).promoted
    verdict = judge(candidate, Fixed(), LABELS, [golden()], LENIENT.model_copy(update={rule: value}), [RETENTION])
    assert not verdict.promoted
    [failed] = [finding for finding in verdict.findings if not finding.passed]
    assert failed.rule == rule
    assert "at " in failed.message


def test_a_label_with_few_texts_is_exempt_from_max_label_loss() -> None:
    strict = LENIENT.model_copy(update={"max_label_loss": 0.1, "min_label_texts": 41})
    verdict = judge(Fixed(WORSE), Fixed(), LABELS, [golden()], strict)
    assert verdict.promoted
    assert any("no label has 41 texts" in finding.message for finding in verdict.findings)


def test_the_better_candidate_has_the_higher_mean_macro_f1() -> None:
    champion, good, bad = Fixed([(0, 0)]), Fixed(), Fixed(WORSE)
    good_comparisons, bad_comparisons = ([compare(each, champion, LABELS, golden())] for each in (good, bad))
    assert is_better(good_comparisons, bad_comparisons)
    assert not is_better(bad_comparisons, good_comparisons)
    assert not is_better(good_comparisons, good_comparisons)
