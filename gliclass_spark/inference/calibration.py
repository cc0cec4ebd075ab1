"""Probabilities that mean what they say: temperatures and thresholds, fitted on labelled texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.results import FloatArray, probabilities
from gliclass_spark.labels import LabelSet

# Temperatures are looked for between 1/20 and 20.
_LOG_RANGE = (-3.0, 3.0)
# How firmly a label's temperature is held to that of the set, in units of the log-likelihood: a label with a dozen
# texts moves little, one with hundreds goes its own way.
_PRIOR = 10.0
_DIGITS = 4

Truth = NDArray[np.bool_]
FloatArray64 = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """How often answers are right, beside how sure they were, in bins of equal width.

    confidence, accuracy: each bin's means, NaN where a bin is empty; counts: how many answers it holds, each by
    its weight.
    """

    confidence: FloatArray
    accuracy: FloatArray
    counts: FloatArray64

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al., arXiv 1706.04599, eq. 3), in [0, 1]."""
        share = self.counts / (self.counts.sum() or 1.0)
        return float(np.nansum(share * np.abs(self.confidence - self.accuracy)))


def reliability(
    scores: FloatArray, truth: Truth, bins: int = 15, weights: NDArray[np.floating] | None = None
) -> Reliability:
    """Over every answer: `scores` are probabilities, `truth` which labels hold, `weights` how much each answer counts.

    All are of one shape, (texts, labels) say. Without weights all answers count alike.
    """
    flat, right = scores.ravel(), truth.ravel()
    weight = np.ones(len(flat)) if weights is None else weights.ravel().astype(np.float64)
    place = np.minimum((flat * bins).astype(np.int64), bins - 1)
    counts: FloatArray64 = np.bincount(place, weights=weight, minlength=bins).astype(np.float64)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, weights=flat * weight, minlength=bins) / counts
        accuracy = np.bincount(place, weights=right * weight, minlength=bins) / counts
    return Reliability(confidence.astype(np.float32), accuracy.astype(np.float32), counts)


def fit_calibration(label_set: LabelSet, logits: FloatArray, truth: Truth) -> LabelSet:
    """The same labels with temperatures and thresholds that fit these texts.

    logits (texts, labels) and `truth`, whether a label holds. The temperature makes the truth most
    likely (temperature scaling, arXiv 1706.04599, section 4.2): one for the set, and in a multi-label
    set one for each label, drawn towards it where few texts have the label. A threshold makes the
    label's F1 greatest; a label that no text has keeps the one it had. Raises TrainingError for texts
    of fewer than two labels.
    """
    if int(truth.any(axis=0).sum()) < 2:
        raise TrainingError("the texts to calibrate with have fewer than two labels; give some of each label")
    exact = logits.astype(np.float64)
    loss = _sigmoid_loss if label_set.multi_label else _softmax_loss
    shared = _minimum(lambda log: loss(exact / np.exp(log), truth))
    fitted = label_set.model_copy(update={"temperature": _rounded(np.exp(shared))})
    if label_set.multi_label:
        own = [_own(exact[:, [column]], truth[:, [column]], shared) for column in range(len(label_set))]
        fitted = _with(fitted, "temperature", [_rounded(np.exp(log)) for log in own])
    scores = probabilities(logits, fitted)
    thresholds = [
        _best_threshold(scores[:, column], truth[:, column]) if truth[:, column].any() else label.threshold
        for column, label in enumerate(label_set.labels)
    ]
    return _with(fitted, "threshold", thresholds)


def _own(logits: FloatArray64, truth: Truth, shared: float) -> float:
    return _minimum(lambda log: _sigmoid_loss(logits / np.exp(log), truth) + _PRIOR * (log - shared) ** 2)


def _with(label_set: LabelSet, field: str, values: Sequence[float | None]) -> LabelSet:
    labels = tuple(
        label.model_copy(update={field: value}) for label, value in zip(label_set.labels, values, strict=True)
    )
    return label_set.model_copy(update={"labels": labels})


def _sigmoid_loss(logits: FloatArray64, truth: Truth) -> float:
    """Minus the log-likelihood of every answer."""
    return float(np.logaddexp(0.0, np.where(truth, -logits, logits)).sum())


def _softmax_loss(logits: FloatArray64, truth: Truth) -> float:
    """Minus the log-likelihood that the label is one of the true ones, over the texts that have one."""
    rows = truth.any(axis=1)
    everything = logsumexp(logits[rows], axis=1)
    return float((everything - logsumexp(logits[rows], axis=1, b=truth[rows])).sum())


def _minimum(loss: Callable[[float], float]) -> float:
    return float(minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded").x)


def _best_threshold(scores: FloatArray, truth: Truth) -> float:
    """Half-way between the two scores between which a cut gives the best F1."""
    order = np.argsort(-scores, kind="stable")
    ordered, right = scores[order].astype(np.float64), truth[order]
    taken = np.arange(1, len(ordered) + 1)
    f1 = 2 * np.cumsum(right) / (taken + right.sum())
    # Texts of equal score can't be told apart by a threshold.
    f1[:-1][ordered[:-1] == ordered[1:]] = -1.0
    last = int(f1.argmax())
    below = float(ordered[last + 1]) if last + 1 < len(ordered) else 0.0
    middle = (float(ordered[last]) + below) / 2
    short = _rounded(middle)
    return short if below < short <= ordered[last] else middle


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
