"""Statistics of F1: how sure a gain or loss is, by the texts on which two models differ.

All functions take masks (..., texts, labels) or their sums, and work over the leading axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, ndtri

from gliclass_spark.labels.thresholds import Mask

FloatArray64 = NDArray[np.float64]

POWER = 0.8
CONFIDENCE = 0.95
_EXAMPLE_GAINS = (0.01, 0.02, 0.05)


@dataclass(frozen=True)
class F1Gain:
    """A gain in macro-F1 and its standard error, each (...,)."""

    gain: FloatArray64
    standard_error: FloatArray64

    def lower_bound(self, confidence: float) -> FloatArray64:
        """Return the one-sided lower bound."""
        return self.gain - float(ndtri(confidence)) * self.standard_error

    def upper_bound(self, confidence: float) -> FloatArray64:
        """Return the one-sided upper bound."""
        return self.gain + float(ndtri(confidence)) * self.standard_error


def label_f1(assigned: Mask, targets: Mask) -> FloatArray64:
    """Return the F1 of each label, (..., labels); NaN for a label that no text has or was given."""
    hits, total = _f1_terms(assigned, targets)
    with np.errstate(invalid="ignore"):
        f1: FloatArray64 = hits.sum(axis=-2) / total.sum(axis=-2)
    return f1


def macro_f1(assigned: Mask, targets: Mask) -> FloatArray64:
    """Return the mean F1 of the labels that a text has or was given, (...,)."""
    f1 = label_f1(assigned, targets)
    macro: FloatArray64 = np.nansum(f1, axis=-1) / np.maximum((~np.isnan(f1)).sum(axis=-1), 1)
    return macro


def f1_gain(candidate: Mask, champion: Mask, targets: Mask) -> F1Gain:
    """Return the candidate's gain in macro-F1 over the champion, with the standard error of paired texts.

    The standard error is that of the mean of the texts' influences on the gain (delta method): with
    F1 = sum(2 tp) / sum(2 tp + fp + fn), a text's influence on it is n (2 tp - F1 (2 tp + fp + fn)) / sum(2 tp + fp +
    fn). Texts that both models treat alike in everything contribute nothing that the difference does not cancel.
    """
    texts = targets.shape[-2]
    influence = _macro_influence(candidate, targets) - _macro_influence(champion, targets)
    variance = (influence**2).sum(axis=-1) / max(texts - 1, 1) / max(texts, 1)
    return F1Gain(macro_f1(candidate, targets) - macro_f1(champion, targets), np.sqrt(variance))


def loss_p_values(candidate: Mask, champion: Mask, targets: Mask) -> FloatArray64:
    """Return, for each label, the probability of as many more errors by chance alone, (..., labels).

    An exact sign test (McNemar) over the texts where one model is right about the label and the other is wrong.
    """
    worse = ((candidate != targets) & (champion == targets)).sum(axis=-2)
    better = ((candidate == targets) & (champion != targets)).sum(axis=-2)
    p_values: FloatArray64 = bdtrc(worse - 1, worse + better, 0.5)
    return p_values


def holm(p_values: FloatArray64) -> FloatArray64:
    """Return p-values (..., labels) corrected for their number by Holm's method; NaN stands for no test."""
    order = np.argsort(p_values, axis=-1)  # NaN comes last
    tests = (~np.isnan(p_values)).sum(axis=-1, keepdims=True)
    factors = np.maximum(tests - np.arange(p_values.shape[-1]), 1)
    corrected = np.minimum(np.take_along_axis(p_values, order, axis=-1) * factors, 1.0)
    corrected = np.maximum.accumulate(corrected, axis=-1)
    result = np.empty_like(p_values)
    np.put_along_axis(result, order, corrected, axis=-1)
    return result


def detectable_gain(standard_error: float, confidence: float = CONFIDENCE) -> float:
    """Return the true gain that is shown, with this confidence, in 80% of the cases (minimum detectable effect)."""
    return float((ndtri(confidence) + ndtri(POWER)) * standard_error)


def texts_for_gain(gain: float, texts: int, standard_error: float, confidence: float = CONFIDENCE) -> int:
    """Return how many texts show a true gain in 80% of the cases, as the error falls with their square root."""
    return int(np.ceil(texts * (detectable_gain(standard_error, confidence) / gain) ** 2))


def texts_for_gains(texts: int, standard_error: float) -> dict[str, int]:
    """Return how many texts show a true gain of 0.01, 0.02 and 0.05, by the gain as text."""
    return {f"{gain:g}": texts_for_gain(gain, texts, standard_error) for gain in _EXAMPLE_GAINS}


def _f1_terms(assigned: Mask, targets: Mask) -> tuple[FloatArray64, FloatArray64]:
    """Return 2 tp and 2 tp + fp + fn of each text and label: a hit counts twice in both, an error once."""
    hits = (assigned & targets).astype(np.float64) * 2.0
    return hits, hits + (assigned ^ targets).astype(np.float64)


def _macro_influence(assigned: Mask, targets: Mask) -> FloatArray64:
    """Return the influence of each text on macro-F1, (..., texts)."""
    hits, total = _f1_terms(assigned, targets)
    sums = total.sum(axis=-2, keepdims=True)
    present = sums > 0
    scale = np.divide(targets.shape[-2], sums, out=np.zeros_like(sums), where=present)
    f1 = np.divide(hits.sum(axis=-2, keepdims=True), sums, out=np.zeros_like(sums), where=present)
    influence = (hits - f1 * total) * scale
    macro: FloatArray64 = influence.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
    return macro
