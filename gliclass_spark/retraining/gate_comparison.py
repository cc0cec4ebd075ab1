"""Comparison of a candidate with the champion, on texts that neither was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.inference.calibration import reliability
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import Mask, passing_labels
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.data.logged_decisions import LoggedDecisions, Matrix

_RESAMPLES = 1000
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class EvaluationSet:
    """Texts with labels that are known, at least in part.

    targets: (texts, labels); 1 or 0, -1 where unknown. weights: (texts, labels); how much each target counts.
    """

    name: str
    texts: tuple[str, ...]
    targets: Matrix
    weights: Matrix

    @classmethod
    def of_labelled(cls, labelled: LabelledSet, label_set: LabelSet) -> EvaluationSet:
        """Return the golden set: every label is known for every text. Labels that the label set lacks are ignored."""
        columns = {name: column for column, name in enumerate(label_set.names)}
        targets = np.zeros((len(labelled), len(label_set)), dtype=np.float32)
        for row, labels in enumerate(labelled.targets):
            names = [labelled.labels[label] for label in labels]
            targets[row, [columns[name] for name in names if name in columns]] = 1
        return cls("golden", labelled.texts, targets, np.ones_like(targets))

    @classmethod
    def of_decisions(cls, decisions: LoggedDecisions, max_weight: float) -> EvaluationSet:
        """Return the judged documents, with inverse-propensity weights of at most `max_weight`."""
        judged = decisions.where(np.count_nonzero(decisions.judged, axis=1) > 0)
        return cls("newest feedback", judged.texts, judged.targets, judged.weights(max_weight))


@dataclass(frozen=True)
class Quality:
    """f1: of each label that a text has or was given. macro_f1: its mean. calibration_error: expected, in [0, 1]."""

    macro_f1: float
    f1: dict[str, float]
    calibration_error: float


@dataclass(frozen=True)
class GateComparison:
    """Champion and candidate on the same texts.

    texts: their number. f1_interval: 95% confidence interval of the gain in macro-F1, by a bootstrap over texts.
    agreement: share of texts to which both give the same labels. label_texts: number of texts that have each label.
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


def compare(
    candidate: Engine, champion: Engine, label_set: LabelSet, evaluation_set: EvaluationSet, seed: int = 0
) -> GateComparison:
    """Return the comparison on one set. A text that a model can't score is given no label."""
    candidate_scores, champion_scores = (
        engine.scores(evaluation_set.texts, label_set) for engine in (candidate, champion)
    )
    candidate_labels, champion_labels = (
        assign_labels(scores, label_set) for scores in (candidate_scores, champion_scores)
    )
    true = evaluation_set.targets > 0
    return GateComparison(
        evaluation_set.name,
        len(evaluation_set.texts),
        _quality(champion_scores, champion_labels, evaluation_set, label_set),
        _quality(candidate_scores, candidate_labels, evaluation_set, label_set),
        _gain_interval(candidate_labels, champion_labels, evaluation_set, seed),
        float((candidate_labels == champion_labels).all(axis=1).mean()),
        dict(zip(label_set.names, true.sum(axis=0).tolist(), strict=True)),
    )


def is_better(comparisons: Sequence[GateComparison], others: Sequence[GateComparison]) -> bool:
    """Return whether the candidate of `comparisons` has the higher macro-F1, averaged over the sets."""
    return _mean_macro_f1(comparisons) > _mean_macro_f1(others)


def _mean_macro_f1(comparisons: Sequence[GateComparison]) -> float:
    return float(np.mean([comparison.candidate.macro_f1 for comparison in comparisons]))


def assign_labels(scores: FloatArray, label_set: LabelSet) -> Mask:
    """Return the labels that scores give, (texts, labels): by thresholds, or the best one of a single-label set.

    A row of NaN is given none.
    """
    if label_set.multi_label:
        return passing_labels(scores, label_set)
    best: Mask = scores.argmax(axis=1)[:, np.newaxis] == np.arange(len(label_set))
    return best & ~np.isnan(scores)


def macro_f1(assigned: Mask, evaluation_set: EvaluationSet) -> float:
    """Return the mean F1 of the labels that a text has or was given, over known targets."""
    return float(_macro(_confusion(assigned, evaluation_set).sum(axis=1, keepdims=True))[0])


def _confusion(assigned: Mask, evaluation_set: EvaluationSet) -> NDArray[np.float64]:
    """(3, texts, labels): weights of true positives, false positives and false negatives."""
    weights = evaluation_set.weights * (evaluation_set.targets >= 0)
    true = evaluation_set.targets > 0
    cells = [weights * (assigned & true), weights * (assigned & ~true), weights * (~assigned & true)]
    return np.stack(cells).astype(np.float64)


def _f1(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., labels) of (3, ..., labels); NaN for a label that no text has or was given."""
    true_positives, false_positives, false_negatives = confusion
    with np.errstate(invalid="ignore"):
        f1: NDArray[np.float64] = 2 * true_positives / (2 * true_positives + false_positives + false_negatives)
    return f1


def _macro(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    f1 = _f1(confusion)
    present = ~np.isnan(f1)
    macro: NDArray[np.float64] = np.nansum(f1, axis=-1) / np.maximum(present.sum(axis=-1), 1)
    return macro


def _gain_interval(
    candidate_labels: Mask, champion_labels: Mask, evaluation_set: EvaluationSet, seed: int
) -> tuple[float, float]:
    """Percentile bootstrap: texts are resampled with replacement, the same for both models."""
    texts = len(evaluation_set.texts)
    counts = np.random.default_rng(seed).multinomial(texts, np.full(texts, 1 / texts), size=_RESAMPLES)
    candidate_f1, champion_f1 = (
        _macro(np.stack([counts @ part for part in _confusion(assigned, evaluation_set)]))
        for assigned in (candidate_labels, champion_labels)
    )
    low, high = np.percentile(candidate_f1 - champion_f1, _PERCENTILES)
    return float(low), float(high)


def _quality(scores: FloatArray, assigned: Mask, evaluation_set: EvaluationSet, label_set: LabelSet) -> Quality:
    f1 = _f1(_confusion(assigned, evaluation_set).sum(axis=1))
    known = evaluation_set.targets >= 0
    truth = evaluation_set.targets[known] > 0
    calibration = reliability(np.nan_to_num(scores)[known], truth, weights=evaluation_set.weights[known])
    by_label = {name: float(value) for name, value in zip(label_set.names, f1, strict=True) if not np.isnan(value)}
    return Quality(macro_f1(assigned, evaluation_set), by_label, calibration.error)
