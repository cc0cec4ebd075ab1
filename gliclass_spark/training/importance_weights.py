"""Importance weights: how many samples of equal weight they are worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def effective_sample_size(weights: NDArray[np.floating]) -> float:
    """Return (sum w)^2 / sum w^2 (Kish): the number of samples of equal weight with the same variance of the mean.

    0 without weights.
    """
    weights = weights.astype(np.float64)
    return float(weights.sum() ** 2 / max((weights**2).sum(), 1e-12))
