"""The calibration error that sampling alone leaves: of perfect scores, and of scores that know all but base rates.

The expected calibration error of perfect probabilities is not zero, because the accuracy of a bin is a mean of a few
texts (Roelofs et al., Mitigating Bias in Calibration Error Estimation, arXiv 2012.08668). So labels are simulated from
probabilities of the size that a set's have, and these are then right by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from benchmarks.quality.judged_logits import FEW, JudgedLogits, errors
from gliclass_spark.inference.calibration import Ridge, Truth
from gliclass_spark.inference.results import probabilities

DRAWS = 20
_ALMOST_NONE = Ridge(1e-6, 1e-6)
_SMALLEST = 1e-6
_LARGEST_SHIFT = 15.0


def sampling_alone(judged: JudgedLogits) -> dict[str, dict[str, float]]:
    """Return the mean errors of 20 simulations, on as many texts as are evaluated.

    perfect: of the probabilities that the labels are drawn from. base_rates: of the same with the bias of each label
    fitted to FEW texts, and a slope that is right.
    """
    rng = np.random.default_rng(0)
    scores = likely_scores(judged)
    half = len(scores) // 2
    perfect, base_rates = [], []
    for _ in range(DRAWS):
        truth = drawn_labels(scores[half:], judged, rng)
        few = scores[rng.permutation(half)[:FEW]]
        shifts = [base_rate_shift(*column) for column in zip(few.T, drawn_labels(few, judged, rng).T, strict=True)]
        perfect.append(errors(scores[half:].astype(np.float32), truth))
        base_rates.append(errors(expit(logit(scores[half:]) + shifts).astype(np.float32), truth))
    return {"perfect": mean_errors(perfect), "base_rates": mean_errors(base_rates)}


def mean_errors(each: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: fmean(errors[name] for errors in each) for name in each[0]}


def likely_scores(judged: JudgedLogits) -> NDArray[np.float64]:
    """Return probabilities as the set's are: those of a fit to all of its texts, adding to 1 if each has one label."""
    scores = probabilities(judged.logits, judged.fitted(_ALMOST_NONE)).astype(np.float64)
    if has_one_label_each(judged):
        scores /= scores.sum(axis=1, keepdims=True)
    clipped: NDArray[np.float64] = scores.clip(_SMALLEST, 1 - _SMALLEST)
    return clipped


def drawn_labels(scores: NDArray[np.float64], judged: JudgedLogits, rng: np.random.Generator) -> Truth:
    if not has_one_label_each(judged):
        independent: Truth = rng.random(scores.shape) < scores
        return independent
    below = rng.random((len(scores), 1)) > scores.cumsum(axis=1)
    truth: Truth = np.eye(scores.shape[1], dtype=bool)[below.sum(axis=1).clip(max=scores.shape[1] - 1)]
    return truth


def has_one_label_each(judged: JudgedLogits) -> bool:
    return bool((judged.truth.sum(axis=1) == 1).all())


def base_rate_shift(scores: NDArray[np.float64], truth: Truth) -> float:
    """Return the maximum likelihood bias of one label: with it, the scores add up to the number of texts that have it.

    With none or all of the texts it would be infinite; half a text more or less is assumed.
    """
    positives = float(np.clip(truth.sum(), 0.5, len(truth) - 0.5))
    logits = logit(scores)
    return float(brentq(lambda shift: expit(logits + shift).sum() - positives, -_LARGEST_SHIFT, _LARGEST_SHIFT))
