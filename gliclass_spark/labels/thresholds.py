"""Thresholds: the labels that scores assign to texts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.labels import LabelSet

FloatArray = NDArray[np.float32]
Mask = NDArray[np.bool_]


def passing_labels(scores: FloatArray, label_set: LabelSet) -> Mask:
    """Return the mask (texts, labels) of scores that reach their label's threshold, at most `top_k` per text.

    NaN reaches no threshold.
    """
    # In float64, as Python compares a float32 score with a threshold.
    passing: Mask = scores.astype(np.float64) >= np.array(label_set.thresholds)
    return keep_top_k(passing, scores, label_set.top_k)


def keep_top_k(mask: Mask, scores: FloatArray, top_k: int | None) -> Mask:
    """Return the mask (texts, labels) with the `top_k` best-scored labels of each text, or all for None."""
    if top_k is None:
        return mask
    best = rank_labels(np.where(mask, scores, np.float32(-np.inf)))[:, :top_k]
    kept = np.zeros_like(mask)
    np.put_along_axis(kept, best, True, axis=1)
    return mask & kept


def rank_labels(scores: FloatArray) -> NDArray[np.intp]:
    """Return label indices (texts, labels), best score first; ties keep the label set's order."""
    return np.argsort(-scores, axis=1, kind="stable")
