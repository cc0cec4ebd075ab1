"""The gate: the rules that a candidate must meet to become the champion."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gliclass_spark.config.retraining import GateRules
from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import LabelSet
from gliclass_spark.retraining.gate_comparison import EvaluationSet, GateComparison, compare
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.evaluation.forgetting import Forgetting, measure_forgetting

_TIMED_TEXTS = 200
_TIMED_ROUNDS = 3
_WARM_UP_TEXTS = 4


@dataclass(frozen=True)
class Finding:
    """Whether the candidate meets one rule; the message has the measured value and the rule's."""

    rule: str
    passed: bool
    message: str


@dataclass(frozen=True)
class GateVerdict:
    """Comparisons, forgetting and findings. slowdown: the champion's texts/s over the candidate's."""

    comparisons: tuple[GateComparison, ...]
    forgetting: tuple[Forgetting, ...]
    slowdown: float
    findings: tuple[Finding, ...]

    @property
    def promoted(self) -> bool:
        return all(finding.passed for finding in self.findings)


def judge(
    candidate: Engine,
    champion: Engine,
    label_set: LabelSet,
    sets: Sequence[EvaluationSet],
    rules: GateRules,
    retention: Sequence[LabelledSet] = (),
    seed: int = 0,
) -> GateVerdict:
    """Return the verdict: both models compared on every set that has texts, and every rule checked.

    retention: sets of other labels, to measure forgetting.
    """
    comparisons = tuple(
        compare(candidate, champion, label_set, evaluation_set, seed) for evaluation_set in sets if evaluation_set.texts
    )
    forgetting = measure_forgetting(candidate, champion, retention, seed)
    slowdown = _slowdown(candidate, champion, label_set, sets[0].texts[:_TIMED_TEXTS])
    findings = (
        *(finding for comparison in comparisons for finding in _check_comparison(comparison, rules)),
        *(_check_forgetting(loss, rules) for loss in forgetting),
        _check_slowdown(slowdown, rules),
    )
    return GateVerdict(comparisons, forgetting, slowdown, findings)


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


def _check_comparison(comparison: GateComparison, rules: GateRules) -> Iterator[Finding]:
    champion, candidate = comparison.champion, comparison.candidate
    low, high = comparison.f1_interval
    yield Finding(
        "min_f1_gain",
        low >= rules.min_f1_gain,
        f"macro-F1 on {comparison.name}: {champion.macro_f1:.3f} -> {candidate.macro_f1:.3f}, gain "
        f"{comparison.f1_gain:+.3f} ({low:+.3f} to {high:+.3f}), at least {rules.min_f1_gain:+.3f} at the lower end",
    )
    yield _check_worst_label(comparison, rules)
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


def _check_worst_label(comparison: GateComparison, rules: GateRules) -> Finding:
    champion_f1, candidate_f1 = comparison.champion.f1, comparison.candidate.f1
    losses = {
        label: champion_f1.get(label, 0.0) - candidate_f1.get(label, 0.0)
        for label, texts in comparison.label_texts.items()
        if texts >= rules.min_label_texts
    }
    rule, max_loss = "max_label_loss", rules.max_label_loss
    if not losses:
        return Finding(rule, True, f"no label has {rules.min_label_texts} texts of {comparison.name}")
    label = max(losses, key=lambda name: losses[name])
    message = (
        f"the label that loses most on {comparison.name}, {label!r}: {-losses[label]:+.3f} F1, at most {-max_loss:+.3f}"
    )
    return Finding(rule, losses[label] <= max_loss, message)


def _check_forgetting(forgetting: Forgetting, rules: GateRules) -> Finding:
    message = (
        f"macro-F1 on {forgetting.name}, which is not trained on: {forgetting.champion:.3f} -> "
        f"{forgetting.candidate:.3f}, at most {-rules.max_forgetting:+.3f}"
    )
    return Finding("max_forgetting", forgetting.loss <= rules.max_forgetting, message)


def _check_slowdown(slowdown: float, rules: GateRules) -> Finding:
    message = f"takes {slowdown:.2f} times the champion's time, at most {rules.max_slowdown:.2f}"
    return Finding("max_slowdown", slowdown <= rules.max_slowdown, message)
