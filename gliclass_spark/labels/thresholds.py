"""Which labels hold for a text: those whose scores reach their thresholds, and of these the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.labels import LabelSet

FloatArray = NDArray[np.float32]
Mask = NDArray[np.bool_]


def by_thresholds(scores: FloatArray, label_set: LabelSet) -> Mask:
    """(texts, labels): whether a score reaches its label's threshold, and is one of the set's `top_k` that do.

    A score that is NaN reaches nothing.
    """
    # As Python compares them: the score's float32 with the threshold's float64.
    reached: Mask = scores.astype(np.float64) >= np.array(label_set.thresholds)
    return at_most(reached, scores, label_set.top_k)


def at_most(chosen: Mask, scores: FloatArray, top_k: int | None) -> Mask:
    """(texts, labels): of the labels that are chosen for a text the `top_k` of best score, or all if it is None."""
    if top_k is None:
        return chosen
    best = best_first(np.where(chosen, scores, np.float32(-np.inf)))[:, :top_k]
    kept = np.zeros_like(chosen)
    np.put_along_axis(kept, best, True, axis=1)
    return chosen & kept


def best_first(scores: FloatArray) -> NDArray[np.intp]:
    """(texts, labels): the labels' positions, best first; labels of equal score stand in the label set's order."""
    return np.argsort(-scores, axis=1, kind="stable")
