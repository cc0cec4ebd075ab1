"""Calibration: temperatures and thresholds fitted on labelled texts, and the reliability of probabilities."""

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

# Temperatures are searched between exp(-3) and exp(3), about 1/20 and 20.
_LOG_RANGE = (-3.0, 3.0)
# Weight of the squared distance between a label's log temperature and that of the set, in units of the log-likelihood:
# a label with a dozen texts stays close to it, one with hundreds need not.
_PRIOR_WEIGHT = 10.0
_SIGNIFICANT_DIGITS = 4

Truth = NDArray[np.bool_]
FloatArray64 = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: accuracy over confidence, in bins of equal width.

    confidence, accuracy: (bins,) means in [0, 1], NaN where a bin is empty.
    counts: (bins,) sum of the weights of the predictions in each bin.
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
    """Return the reliability diagram of predictions.

    scores: probabilities in [0, 1]. truth: whether the label is true. weights: of each prediction; None for 1.
    All have one shape, (texts, labels) for example.
    """
    confidences, correct = scores.ravel(), truth.ravel()
    weight = np.ones(len(confidences)) if weights is None else weights.ravel().astype(np.float64)
    bin_index = np.minimum((confidences * bins).astype(np.int64), bins - 1)
    counts: FloatArray64 = np.bincount(bin_index, weights=weight, minlength=bins).astype(np.float64)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bin_index, weights=confidences * weight, minlength=bins) / counts
        accuracy = np.bincount(bin_index, weights=correct * weight, minlength=bins) / counts
    return Reliability(confidence.astype(np.float32), accuracy.astype(np.float32), counts)


def fit_calibration(label_set: LabelSet, logits: FloatArray, truth: Truth) -> LabelSet:
    """Return the label set with temperatures and thresholds fitted to these texts.

    logits: (texts, labels). truth: (texts, labels), whether the label is true.

    Temperatures maximize the likelihood of `truth` (temperature scaling, arXiv 1706.04599, section 4.2): one for the
    set, and in a multi-label set one for each label, with a prior centred on that of the set. Thresholds maximize
    each label's F1; a label without a text keeps its threshold. Raises TrainingError if fewer than two labels have a
    text.
    """
    if int(truth.any(axis=0).sum()) < 2:
        raise TrainingError("the texts to calibrate with have fewer than two labels; give some of each label")
    logits64 = logits.astype(np.float64)
    loss = _sigmoid_loss if label_set.multi_label else _softmax_loss
    shared_log = _minimize(lambda log: loss(logits64 / np.exp(log), truth))
    fitted = label_set.model_copy(update={"temperature": _round(np.exp(shared_log))})
    if label_set.multi_label:
        label_logs = [
            _label_log_temperature(logits64[:, [column]], truth[:, [column]], shared_log)
            for column in range(len(label_set))
        ]
        fitted = _with_label_values(fitted, "temperature", [_round(np.exp(log)) for log in label_logs])
    scores = probabilities(logits, fitted)
    thresholds = [
        _best_threshold(scores[:, column], truth[:, column]) if truth[:, column].any() else label.threshold
        for column, label in enumerate(label_set.labels)
    ]
    return _with_label_values(fitted, "threshold", thresholds)


def _label_log_temperature(logits: FloatArray64, truth: Truth, shared_log: float) -> float:
    return _minimize(lambda log: _sigmoid_loss(logits / np.exp(log), truth) + _PRIOR_WEIGHT * (log - shared_log) ** 2)


def _with_label_values(label_set: LabelSet, field: str, values: Sequence[float | None]) -> LabelSet:
    labels = tuple(
        label.model_copy(update={field: value}) for label, value in zip(label_set.labels, values, strict=True)
    )
    return label_set.model_copy(update={"labels": labels})


def _sigmoid_loss(logits: FloatArray64, truth: Truth) -> float:
    """Return the negative log-likelihood, summed over texts and labels."""
    return float(np.logaddexp(0.0, np.where(truth, -logits, logits)).sum())


def _softmax_loss(logits: FloatArray64, truth: Truth) -> float:
    """Return the negative log-likelihood of the set of true labels, summed over the texts that have one."""
    rows = truth.any(axis=1)
    all_labels = logsumexp(logits[rows], axis=1)
    return float((all_labels - logsumexp(logits[rows], axis=1, b=truth[rows])).sum())


def _minimize(loss: Callable[[float], float]) -> float:
    return float(minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded").x)


def _best_threshold(scores: FloatArray, truth: Truth) -> float:
    """Return the midpoint of the two neighbouring scores between which a threshold gives the best F1."""
    order = np.argsort(-scores, kind="stable")
    ordered, positive = scores[order].astype(np.float64), truth[order]
    predicted = np.arange(1, len(ordered) + 1)
    f1 = 2 * np.cumsum(positive) / (predicted + positive.sum())
    # A threshold can't separate texts of equal score.
    f1[:-1][ordered[:-1] == ordered[1:]] = -1.0
    last = int(f1.argmax())
    below = float(ordered[last + 1]) if last + 1 < len(ordered) else 0.0
    middle = (float(ordered[last]) + below) / 2
    rounded = _round(middle)
    return rounded if below < rounded <= ordered[last] else middle


def _round(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
