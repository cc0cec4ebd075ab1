"""Calibration: temperatures, biases and thresholds fitted on labelled texts; the reliability of probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.results import FloatArray, probabilities
from gliclass_spark.labels import LabelSet

# Bounds of slopes, so that a temperature is a positive number: a label whose logits say nothing has a flat score.
_SLOPES = (0.05, 20.0)
_SIGNIFICANT_DIGITS = 4

Truth = NDArray[np.bool_]
FloatArray64 = NDArray[np.float64]


@dataclass(frozen=True)
class Ridge:
    """Weights of the squared distances of a label's slope and bias from the set's, in units of the log loss (nats).

    The defaults have the least log loss with 100 texts over 21 sets that were not trained on; the slope's could be a
    third as large, a stronger one calibrates worse: `python -m benchmarks.quality.calibration --choose`.
    """

    slope: float = 0.3
    bias: float = 0.3


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


def mean_label_error(scores: FloatArray, truth: Truth) -> float:
    """Return the expected calibration error of each label alone, averaged over the labels, in [0, 1].

    scores, truth: (texts, labels), as in `reliability`.
    """
    errors = [reliability(scores[:, label], truth[:, label]).error for label in range(scores.shape[1])]
    return float(np.mean(errors))


def is_one_sided(truth: Truth) -> NDArray[np.bool_]:
    """Return for each label, (labels,), whether none or all of the texts have it."""
    positives = np.count_nonzero(truth, axis=0)
    one_sided: NDArray[np.bool_] = (positives == 0) | (positives == len(truth))
    return one_sided


def fit_calibration(label_set: LabelSet, logits: FloatArray, truth: Truth, ridge: Ridge = Ridge()) -> LabelSet:
    """Return the label set with temperatures, biases and thresholds fitted to these texts.

    logits: (texts, labels). truth: (texts, labels), whether the label is true.

    A score is the sigmoid of slope * logit + bias (Platt scaling, 1999), with the slope as its inverse, the
    temperature. Slope and bias of the set minimize the log loss over all pairs of text and label; those of each label
    its own, with a ridge penalty on their distance from the set's (partial pooling), so that a label with few texts
    stays close to the set. In a single-label set the slope is the set's and the biases are the labels' (bias-corrected
    temperature scaling, arXiv 1901.06852). Each fit is convex and has one solution.

    Thresholds maximize each label's F1; a label that none or all of the texts have keeps its threshold. Raises
    TrainingError if that holds for all labels.
    """
    one_sided = is_one_sided(truth)
    if one_sided.all():
        raise TrainingError("the texts to calibrate with have fewer than two labels; give some of each label")
    fit = _fit_sigmoids if label_set.multi_label else _fit_softmax
    fitted = fit(label_set, logits.astype(np.float64), truth, ridge)
    scores = probabilities(logits, fitted)
    thresholds = [
        label.threshold if one_sided[column] else _best_threshold(scores[:, column], truth[:, column])
        for column, label in enumerate(label_set.labels)
    ]
    return _with_label_values(fitted, "threshold", thresholds)


def _fit_sigmoids(label_set: LabelSet, logits: FloatArray64, truth: Truth, ridge: Ridge) -> LabelSet:
    shared_slope, shared_bias = _fit_lines(logits.reshape(-1, 1), truth.reshape(-1, 1), ridge)
    shared = logits * shared_slope + shared_bias
    slopes, biases = _fit_lines(shared, truth, ridge)
    fitted = _with_set_values(label_set, float(shared_slope[0]), float(shared_bias[0]))
    fitted = _with_label_values(fitted, "temperature", [_round(1 / slope) for slope in slopes * shared_slope])
    return _with_label_values(fitted, "bias", [_round(bias) for bias in slopes * shared_bias + biases])


def _fit_lines(logits: FloatArray64, truth: Truth, ridge: Ridge) -> tuple[FloatArray64, FloatArray64]:
    """Return slope and bias of each column, (columns,) each, with a ridge penalty towards slope 1 and bias 0."""

    def loss(parameters: FloatArray64) -> tuple[float, FloatArray64]:
        slopes, biases = parameters.reshape(2, -1)
        scaled = logits * slopes + biases
        error = expit(scaled) - truth
        penalty = ridge.slope * (slopes - 1) ** 2 + ridge.bias * biases**2
        gradient = [
            (error * logits).sum(axis=0) + 2 * ridge.slope * (slopes - 1),
            error.sum(axis=0) + 2 * ridge.bias * biases,
        ]
        return float(np.logaddexp(0, np.where(truth, -scaled, scaled)).sum() + penalty.sum()), np.concatenate(gradient)

    columns = logits.shape[1]
    slopes, biases = _minimize(loss, [_SLOPES] * columns + [(None, None)] * columns).reshape(2, -1)
    return slopes, biases


def _fit_softmax(label_set: LabelSet, logits: FloatArray64, truth: Truth, ridge: Ridge) -> LabelSet:
    rows = truth.any(axis=1)
    logits = logits[rows]
    # A text with several labels is as much of one as of the other: then the loss is convex, too.
    target = truth[rows] / truth[rows].sum(axis=1, keepdims=True)

    def loss(parameters: FloatArray64) -> tuple[float, FloatArray64]:
        slope, biases = parameters[0], parameters[1:]
        scaled = slope * logits + biases
        log_total = logsumexp(scaled, axis=1, keepdims=True)
        error = np.exp(scaled - log_total) - target
        penalty = ridge.slope * (slope - 1) ** 2 + ridge.bias * (biases**2).sum()
        slope_gradient = (error * logits).sum() + 2 * ridge.slope * (slope - 1)
        gradient = np.concatenate([[slope_gradient], error.sum(axis=0) + 2 * ridge.bias * biases])
        return float((target * (log_total - scaled)).sum() + penalty), gradient

    slope, *biases = _minimize(loss, [_SLOPES, *[(None, None)] * len(label_set)])
    return _with_label_values(_with_set_values(label_set, slope, None), "bias", [_round(bias) for bias in biases])


def _with_set_values(label_set: LabelSet, slope: float, bias: float | None) -> LabelSet:
    return label_set.model_copy(
        update={"temperature": _round(1 / slope), "bias": None if bias is None else _round(bias)}
    )


def _with_label_values(label_set: LabelSet, field: str, values: Sequence[float | None]) -> LabelSet:
    labels = tuple(
        label.model_copy(update={field: value}) for label, value in zip(label_set.labels, values, strict=True)
    )
    return label_set.model_copy(update={"labels": labels})


def _minimize(
    loss: Callable[[FloatArray64], tuple[float, FloatArray64]], bounds: Sequence[tuple[float | None, float | None]]
) -> FloatArray64:
    """Return the minimum of a convex loss, which returns its value and gradient; slopes start at 1, biases at 0."""
    start = [1.0 if bound == _SLOPES else 0.0 for bound in bounds]
    options = {"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-7}
    result: FloatArray64 = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return result


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
