"""Importance weights: clipped by their effective sample size, and self-normalized."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Clipped weights keep at least this share of the samples effective.
MIN_EFFECTIVE_SHARE = 0.05


def effective_sample_size(weights: NDArray[np.floating]) -> float:
    """Return (sum w)^2 / sum w^2 (Kish): the number of samples of equal weight with the same variance of the mean.

    0 without weights.
    """
    weights = weights.astype(np.float64)
    return float(weights.sum() ** 2 / max((weights**2).sum(), 1e-12))


def largest_weight(weights: NDArray[np.floating], min_effective_share: float = MIN_EFFECTIVE_SHARE) -> float:
    """Return the largest bound c of weights min(w, c) whose effective sample size is this share of their number.

    Clipping at c costs bias and saves variance (arXiv 1209.2355, section 4): the bound is as large as the variance
    allows. The largest weight if nothing has to be clipped; 1 without weights.
    """
    if not len(weights):
        return 1.0
    ascending = np.sort(weights.astype(np.float64))
    needed = min_effective_share * len(ascending)
    if effective_sample_size(ascending) >= needed:
        return float(ascending[-1])
    # The size falls with c: equal weights have the largest.
    low, high = float(ascending[0]), float(ascending[-1])
    for _ in range(60):
        middle = (low + high) / 2
        enough = effective_sample_size(np.minimum(ascending, middle)) >= needed
        low, high = (middle, high) if enough else (low, middle)
    return low


def self_normalized(weights: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the weights over their mean, so that their sum is their number (Hajek); none if there are none."""
    total = float(weights.sum(dtype=np.float64))
    normalized: NDArray[np.float32] = (weights * (weights.size / total if total else 1.0)).astype(np.float32)
    return normalized
