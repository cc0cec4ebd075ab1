"""The gate: the rules that a candidate must meet to become the champion."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gliclass_spark.config.retraining import GateRules
from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import Mask
from gliclass_spark.retraining.gate.f1_statistics import F1Gain, FloatArray64, holm
from gliclass_spark.retraining.gate.gate_comparison import Contender, EvaluationSet, GateComparison, compare
from gliclass_spark.retraining.gate.harm_tests import HarmTest, harm_tests
from gliclass_spark.retraining.gate.reward_comparison import HarmRule, RewardDifference
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.data.logged_decisions import LoggedDecisions
from gliclass_spark.training.evaluation.forgetting import Forgetting, measure_forgetting

_TIMED_TEXTS = 200
_TIMED_ROUNDS = 3
_WARM_UP_TEXTS = 4
_FEEDBACK = "newest feedback"


@dataclass(frozen=True)
class Finding:
    """Whether the candidate meets one rule; the message has the measured value and the rule's."""

    rule: str
    passed: bool
    message: str


@dataclass(frozen=True)
class GateVerdict:
    """Comparisons, forgetting and findings.

    reward, set_reward: the difference in reward on the newest feedback, of labels and of documents with one reward for
    all of their labels; None without evidence. slowdown: the champion's texts/s over the candidate's.
    """

    comparisons: tuple[GateComparison, ...]
    reward: RewardDifference | None
    forgetting: tuple[Forgetting, ...]
    slowdown: float
    findings: tuple[Finding, ...]
    set_reward: RewardDifference | None = None

    @property
    def promoted(self) -> bool:
        return all(finding.passed for finding in self.findings)


def judge(
    candidate: Contender,
    champion: Contender,
    label_set: LabelSet,
    golden: EvaluationSet,
    feedback: LoggedDecisions,
    rules: GateRules,
    retention: Sequence[LabelledSet] = (),
    seed: int = 0,
) -> GateVerdict:
    """Return the verdict: both models compared, and every rule checked.

    The golden set decides by F1; the newest feedback can only refuse, on evidence of harm. retention: sets of other
    labels, to measure forgetting.
    """
    comparison = compare(candidate, champion, label_set, golden, seed)
    tests = _harm_tests(candidate, champion, feedback, rules)
    forgetting = measure_forgetting(candidate.engine, champion.engine, retention, seed)
    slowdown = _slowdown(candidate.engine, champion.engine, label_set, golden.texts[:_TIMED_TEXTS])
    findings = (
        *_check_f1(comparison, rules),
        _check_labels(comparison, rules),
        *(_check_reward(test) for test in tests),
        *_check_calibration_and_agreement(comparison, rules),
        *(_check_forgetting(loss, rules) for loss in forgetting),
        _check_slowdown(slowdown, rules),
    )
    rewards = {test.per: test.difference for test in tests}
    reward, set_reward = rewards.get("decision"), rewards.get("document")
    return GateVerdict((comparison,), reward, forgetting, slowdown, findings, set_reward)


def shows_loss(gain: F1Gain, rules: GateRules) -> Mask:
    """Return whether a loss of more than `max_f1_loss` is shown, (...,)."""
    shown: Mask = gain.upper_bound(rules.confidence) < -rules.max_f1_loss
    return shown


def shows_gain(gain: F1Gain, rules: GateRules) -> Mask:
    """Return whether the gain that the rules ask for is shown, (...,)."""
    if rules.min_f1_gain is None:
        return np.ones(np.shape(gain.gain), dtype=bool)
    shown: Mask = gain.lower_bound(rules.confidence) >= rules.min_f1_gain
    return shown


def lost_labels(losses: FloatArray64, p_values: FloatArray64, rules: GateRules) -> Mask:
    """Return the labels that lose more than `max_label_loss`, and more than chance explains, (..., labels).

    losses: of F1, NaN for labels that are exempt. p_values: of each label's additional errors.
    """
    corrected = holm(np.where(np.isnan(losses), np.nan, p_values))
    lost: Mask = (losses > rules.max_label_loss) & (corrected <= 1.0 - rules.confidence)
    return lost


def _slowdown(candidate: Engine, champion: Engine, label_set: LabelSet, texts: Sequence[str]) -> float:
    """Median of several rounds that time both in turn, so that other load of the machine hits both."""
    for engine in (candidate, champion):
        engine.logits(texts[:_WARM_UP_TEXTS], label_set)
    ratios = []
    for _ in range(_TIMED_ROUNDS):
        seconds = []
        for engine in (candidate, champion):
            started = time.perf_counter()
            engine.logits(texts, label_set)
            seconds.append(time.perf_counter() - started)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def _check_f1(comparison: GateComparison, rules: GateRules) -> Iterator[Finding]:
    gain = F1Gain(np.array(comparison.f1_gain), np.array(comparison.standard_error))
    lower, upper = float(gain.lower_bound(rules.confidence)), float(gain.upper_bound(rules.confidence))
    values = f"{comparison.champion.macro_f1:.3f} -> {comparison.candidate.macro_f1:.3f}"
    measured = f"macro-F1 on {comparison.name}: {values}, gain {comparison.f1_gain:+.3f}"
    yield Finding(
        "max_f1_loss",
        not shows_loss(gain, rules),
        f"{measured}, with {rules.confidence:.0%} confidence at most {upper:+.3f}; refused below "
        f"{-rules.max_f1_loss:+.3f}",
    )
    if rules.min_f1_gain is not None:
        yield Finding(
            "min_f1_gain",
            bool(shows_gain(gain, rules)),
            f"{measured}, with {rules.confidence:.0%} confidence at least {lower:+.3f}; refused below "
            f"{rules.min_f1_gain:+.3f}",
        )


def _check_labels(comparison: GateComparison, rules: GateRules) -> Finding:
    rule, names = "max_label_loss", list(comparison.label_texts)
    losses = np.array(
        [
            comparison.champion.f1.get(label, 0.0) - comparison.candidate.f1.get(label, 0.0)
            if comparison.label_texts[label] >= rules.min_label_texts
            else np.nan
            for label in names
        ]
    )
    checked = int((~np.isnan(losses)).sum())
    if not checked:
        return Finding(rule, True, f"no label has {rules.min_label_texts} texts of {comparison.name}")
    p_values = np.array([comparison.loss_p_values[label] for label in names])
    lost, corrected = lost_labels(losses, p_values, rules), holm(np.where(np.isnan(losses), np.nan, p_values))
    worst = int(np.nanargmax(np.where(lost, losses, np.nan) if lost.any() else losses))
    others = f", as {int(lost.sum()) - 1} more do" if lost.sum() > 1 else ""
    return Finding(
        rule,
        not lost.any(),
        f"the label that loses most on {comparison.name}, {names[worst]!r}: {-losses[worst]:+.3f} F1, p = "
        f"{corrected[worst]:.2g} corrected for {checked} labels{others}; refused below {-rules.max_label_loss:+.3f} "
        f"with p of at most {1 - rules.confidence:.2g}",
    )


def _harm_tests(
    candidate: Contender, champion: Contender, feedback: LoggedDecisions, rules: GateRules
) -> tuple[HarmTest, ...]:
    rule, label_set = HarmRule(rules.max_reward_loss, rules.confidence), feedback.label_set
    if not feedback.texts:
        nothing = np.zeros((0, len(label_set)), dtype=bool)
        return harm_tests(rule, feedback, nothing, nothing, _FEEDBACK)
    chosen, champions = (contender.assign(feedback.texts, label_set) for contender in (candidate, champion))
    return harm_tests(rule, feedback, chosen, champions, _FEEDBACK)


def _check_reward(test: HarmTest) -> Finding:
    return Finding(
        "max_reward_loss", not test.shows_harm, test.describe(f"candidate - champion on the {_FEEDBACK}", "refused")
    )


def _check_calibration_and_agreement(comparison: GateComparison, rules: GateRules) -> Iterator[Finding]:
    champion, candidate = comparison.champion, comparison.candidate
    loss = candidate.calibration_error - champion.calibration_error
    yield Finding(
        "max_calibration_loss",
        loss <= rules.max_calibration_loss,
        f"calibration error on {comparison.name}: {champion.calibration_error:.3f} -> "
        f"{candidate.calibration_error:.3f}, at most {rules.max_calibration_loss:+.3f}",
    )
    yield Finding(
        "min_agreement",
        comparison.agreement >= rules.min_agreement,
        f"same labels on {comparison.agreement:.0%} of {comparison.name}, at least {rules.min_agreement:.0%}",
    )


def _check_forgetting(forgetting: Forgetting, rules: GateRules) -> Finding:
    message = (
        f"macro-F1 on {forgetting.name}, which is not trained on: {forgetting.champion:.3f} -> "
        f"{forgetting.candidate:.3f}, at most {-rules.max_forgetting:+.3f}"
    )
    return Finding("max_forgetting", forgetting.loss <= rules.max_forgetting, message)


def _check_slowdown(slowdown: float, rules: GateRules) -> Finding:
    message = f"takes {slowdown:.2f} times the champion's time, at most {rules.max_slowdown:.2f}"
    return Finding("max_slowdown", slowdown <= rules.max_slowdown, message)
