"""The gate: a candidate beside the champion on texts that neither has learned from, and what the rules say of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.config.retraining import GateRules
from gliclass_spark.inference.calibration import reliability
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import Mask, by_thresholds
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.data.logged_decisions import LoggedDecisions, Matrix
from gliclass_spark.training.evaluation.forgetting import Forgetting, forgetting

_RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)
_TIMED_TEXTS = 200
_TIMED_ROUNDS = 3


@dataclass(frozen=True)
class EvaluationSet:
    """Texts whose labels are known, or some of them. targets (texts, labels): 1 or 0, -1 where nobody knows.
    weights (texts, labels): how much each answer counts.
    """

    name: str
    texts: tuple[str, ...]
    targets: Matrix
    weights: Matrix

    @classmethod
    def of_labelled(cls, labelled: LabelledSet, label_set: LabelSet) -> EvaluationSet:
        """Every label of the set is known for every text. Labels that the label set lacks don't count."""
        column = {name: place for place, name in enumerate(label_set.names)}
        targets = np.zeros((len(labelled), len(label_set)), dtype=np.float32)
        for row, true in enumerate(labelled.targets):
            targets[row, [column[labelled.labels[label]] for label in true if labelled.labels[label] in column]] = 1
        return cls("golden", labelled.texts, targets, np.ones_like(targets))

    @classmethod
    def of_decisions(cls, decisions: LoggedDecisions, max_weight: float) -> EvaluationSet:
        """What is known of the decisions, each by the inverse of its propensity: labels rarely given count for more."""
        kept = decisions.where(np.count_nonzero(decisions.judged, axis=1) > 0)
        return cls("newest feedback", kept.texts, kept.targets, kept.weights(max_weight))


@dataclass(frozen=True)
class Quality:
    """f1: of each label that a text has or was given. calibration_error: expected, in [0, 1]."""

    macro_f1: float
    f1: dict[str, float]
    calibration_error: float


@dataclass(frozen=True)
class GateComparison:
    """Two models on the same texts. f1_interval: of the gain in macro-F1, 95%, by resampling texts.

    agreement: the share of texts that both give the same labels. label_texts: how many texts have each label.
    """

    name: str
    texts: int
    champion: Quality
    candidate: Quality
    f1_interval: tuple[float, float]
    agreement: float
    label_texts: dict[str, int]

    @property
    def f1_gain(self) -> float:
        return self.candidate.macro_f1 - self.champion.macro_f1


@dataclass(frozen=True)
class Finding:
    """What one rule says: whether the candidate meets it, and both sides of it."""

    rule: str
    passed: bool
    said: str


@dataclass(frozen=True)
class GateVerdict:
    """slowdown: the champion's texts/s over the candidate's."""

    comparisons: tuple[GateComparison, ...]
    forgotten: tuple[Forgetting, ...]
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
    remembered: Sequence[LabelledSet] = (),
    seed: int = 0,
) -> GateVerdict:
    """Compare on every set that has texts, and on what should be remembered; hold the outcome against the rules."""
    comparisons = tuple(compare(candidate, champion, label_set, judged, seed) for judged in sets if judged.texts)
    forgotten = forgetting(candidate, champion, remembered, seed)
    slowdown = _slowdown(candidate, champion, label_set, sets[0].texts[:_TIMED_TEXTS])
    findings = [*_findings(comparisons, rules), *_forgotten(forgotten, rules), _slow(slowdown, rules)]
    return GateVerdict(comparisons, forgotten, slowdown, tuple(findings))


def compare(
    candidate: Engine, champion: Engine, label_set: LabelSet, judged: EvaluationSet, seed: int = 0
) -> GateComparison:
    """Both models on the same texts. A text that a model can't score is given no label."""
    new, old = (engine.scores(judged.texts, label_set) for engine in (candidate, champion))
    new_given, old_given = given(new, label_set), given(old, label_set)
    has = judged.targets > 0
    return GateComparison(
        judged.name,
        len(judged.texts),
        _quality(old, old_given, judged, label_set),
        _quality(new, new_given, judged, label_set),
        _interval(new_given, old_given, judged, seed),
        float((new_given == old_given).all(axis=1).mean()),
        dict(zip(label_set.names, has.sum(axis=0).tolist(), strict=True)),
    )


def given(scores: FloatArray, label_set: LabelSet) -> Mask:
    """(texts, labels): those that thresholds give; of a label set with one label a text, the best one.

    A row of NaN is given none.
    """
    if label_set.multi_label:
        return by_thresholds(scores, label_set)
    best: Mask = scores.argmax(axis=1)[:, np.newaxis] == np.arange(len(label_set))
    return best & ~np.isnan(scores)


def macro_f1(given_: Mask, judged: EvaluationSet) -> float:
    """The mean F1 of the labels that a text has or was given, over what is known."""
    return float(_macro(_counts(given_, judged).sum(axis=1, keepdims=True))[0])


def _counts(given_: Mask, judged: EvaluationSet) -> NDArray[np.float64]:
    """(3, texts, labels): true positives, false positives, false negatives, each by its weight."""
    known = judged.weights * (judged.targets >= 0)
    true = judged.targets > 0
    return np.stack([known * (given_ & true), known * (given_ & ~true), known * (~given_ & true)]).astype(np.float64)


def _f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., labels) of counts (3, ..., labels); NaN for a label that no text has and none was given."""
    hits, false, missed = counts
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = 2 * hits / (2 * hits + false + missed)
    return found


def _macro(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    f1 = _f1(counts)
    present = ~np.isnan(f1)
    found: NDArray[np.float64] = np.nansum(f1, axis=-1) / np.maximum(present.sum(axis=-1), 1)
    return found


def _interval(new: Mask, old: Mask, judged: EvaluationSet, seed: int) -> tuple[float, float]:
    """Texts are drawn with replacement, the same for both models (bootstrap, percentile method)."""
    texts = len(judged.texts)
    drawn = np.random.default_rng(seed).multinomial(texts, np.full(texts, 1 / texts), size=_RESAMPLES)
    gains = [np.stack([drawn @ part for part in _counts(each, judged)]) for each in (new, old)]
    low, high = np.percentile(_macro(gains[0]) - _macro(gains[1]), _INTERVAL)
    return float(low), float(high)


def _quality(scores: FloatArray, given_: Mask, judged: EvaluationSet, label_set: LabelSet) -> Quality:
    f1 = _f1(_counts(given_, judged).sum(axis=1))
    known = judged.targets >= 0
    right = judged.targets[known] > 0
    calibration = reliability(np.nan_to_num(scores)[known], right, weights=judged.weights[known])
    named = {name: float(value) for name, value in zip(label_set.names, f1, strict=True) if not np.isnan(value)}
    return Quality(macro_f1(given_, judged), named, calibration.error)


def _slowdown(candidate: Engine, champion: Engine, label_set: LabelSet, texts: Sequence[str]) -> float:
    """The median of several rounds, the two in turn: other work on the machine hits both."""
    for engine in (candidate, champion):
        engine.logits(texts[:4], label_set)
    ratios = []
    for _ in range(_TIMED_ROUNDS):
        took = []
        for engine in (candidate, champion):
            started = time.perf_counter()
            engine.logits(texts, label_set)
            took.append(time.perf_counter() - started)
        ratios.append(took[0] / took[1])
    return statistics.median(ratios)


def _findings(comparisons: Sequence[GateComparison], rules: GateRules) -> list[Finding]:
    found = []
    for each in comparisons:
        low, high = each.f1_interval
        found.append(
            Finding(
                "min_f1_gain",
                low >= rules.min_f1_gain,
                f"macro-F1 on {each.name}: {each.champion.macro_f1:.3f} -> {each.candidate.macro_f1:.3f}, gain "
                f"{each.f1_gain:+.3f} ({low:+.3f} to {high:+.3f}), at least {rules.min_f1_gain:+.3f} at the lower end",
            )
        )
        found.append(_worst_label(each, rules))
        loss = each.candidate.calibration_error - each.champion.calibration_error
        found.append(
            Finding(
                "max_calibration_loss",
                loss <= rules.max_calibration_loss,
                f"calibration error on {each.name}: {each.champion.calibration_error:.3f} -> "
                f"{each.candidate.calibration_error:.3f}, at most {rules.max_calibration_loss:+.3f}",
            )
        )
        found.append(
            Finding(
                "min_agreement",
                each.agreement >= rules.min_agreement,
                f"same labels on {each.agreement:.0%} of {each.name}, at least {rules.min_agreement:.0%}",
            )
        )
    return found


def _forgotten(forgotten: Sequence[Forgetting], rules: GateRules) -> Iterator[Finding]:
    allowed = rules.max_forgetting
    for each in forgotten:
        said = (
            f"macro-F1 on {each.name}, which nothing was learned from: {each.champion:.3f} -> {each.candidate:.3f}, "
            f"at most {-allowed:+.3f}"
        )
        yield Finding("max_forgetting", each.loss <= allowed, said)


def _slow(slowdown: float, rules: GateRules) -> Finding:
    allowed = rules.max_slowdown
    said = f"takes {slowdown:.2f} times the champion's time, at most {allowed:.2f}"
    return Finding("max_slowdown", slowdown <= allowed, said)


def _worst_label(found: GateComparison, rules: GateRules) -> Finding:
    losses = {
        label: found.champion.f1.get(label, 0.0) - found.candidate.f1.get(label, 0.0)
        for label, texts in found.label_texts.items()
        if texts >= rules.min_label_texts
    }
    rule, allowed = "max_label_loss", rules.max_label_loss
    if not losses:
        return Finding(rule, True, f"no label has {rules.min_label_texts} texts of {found.name} to be judged by")
    label = max(losses, key=lambda name: losses[name])
    said = f"the label that loses most on {found.name}, {label!r}: {-losses[label]:+.3f} F1, at most {-allowed:+.3f}"
    return Finding(rule, losses[label] <= allowed, said)


def better(one: Sequence[GateComparison], other: Sequence[GateComparison]) -> bool:
    """Whether the candidate of `one` has a higher macro-F1 than that of `other`, in the mean of the sets."""

    def mean(comparisons: Sequence[GateComparison]) -> Any:
        return np.mean([each.candidate.macro_f1 for each in comparisons])

    return bool(mean(one) > mean(other))
