"""Drift of scores since a promotion, beyond what exchanging whole runs explains.

Documents of one night resemble each other, so a test that takes each of them for an independent draw finds drift in any
two nights. A permutation test over runs does not: if nothing has changed, any run could have come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.runs.manifest import HISTOGRAM_BINS, Manifest

# Of each of the two groups. Five runs can be exchanged with five others in 126 ways.
MIN_RUNS, MAX_RUNS = 5, 7
# Below, a change counts as small, however certain it is (Lewis, An Introduction to Credit Scoring, 1994).
MIN_INDEX = 0.1
# Added to each bin, so that an empty one has a logarithm (Krichevsky and Trofimov's estimate).
_SMOOTHING = 0.5

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreDrift:
    """The drift between the first and the last `runs` runs.

    p_value: the share of the ways to exchange runs that give as large an index for some label. indices: the population
    stability index of each label that has drifted, largest first.
    """

    runs: int
    p_value: float
    indices: dict[str, float] = field(default_factory=dict)


def stability_index(expected: Counts, actual: Counts) -> Counts:
    """Return the population stability index of histograms (..., bins): sum of (p - q) ln(p / q), (...,).

    p and q are the bins' shares in `actual` and `expected`, after 0.5 was added to each count.
    """
    q, p = ((counts + _SMOOTHING) / (counts + _SMOOTHING).sum(axis=-1, keepdims=True) for counts in (expected, actual))
    index: Counts = ((p - q) * np.log(p / q)).sum(axis=-1)
    return index


def score_drift(runs: Sequence[Manifest], significance: float) -> ScoreDrift | None:
    """Return the drift of the scores' histograms over tag jobs of one model, oldest first; None for too few runs.

    The largest index of all labels is compared with the largest ones of the exchanges, which corrects for the number
    of labels (Westfall and Young, 1993).
    """
    size = min(len(runs) // 2, MAX_RUNS)
    if size < MIN_RUNS:
        return None
    compared = [*runs[:size], *runs[-size:]]
    groups = _groups(size)
    labels = sorted({label for run in compared for label in run.score_histograms})
    # The first row is what happened.
    largest, observed = np.zeros(len(groups)), {}
    for label in labels:
        histograms = np.array([ten_bins(run.score_histograms.get(label)) for run in compared])
        first = groups @ histograms
        indices = stability_index(first, histograms.sum(axis=0) - first)
        observed[label] = float(indices[0])
        largest = np.maximum(largest, indices)

    def p_value(index: float) -> float:
        return float((largest >= index - 1e-12).mean())

    drifted = {
        label: round(index, 4)
        for label, index in sorted(observed.items(), key=lambda item: -item[1])
        if index >= MIN_INDEX and p_value(index) <= significance
    }
    return ScoreDrift(size, p_value(float(largest[0])), drifted)


def _groups(size: int) -> Counts:
    """Return the ways to split 2 * size runs into two equal groups, (ways, runs): 1 for a run of the first group.

    An exchange of both groups gives the same index, so the first run stays in the first group.
    """
    ways = [(0, *others) for others in combinations(range(1, 2 * size), size - 1)]
    groups = np.zeros((len(ways), 2 * size))
    for row, members in enumerate(ways):
        groups[row, list(members)] = 1.0
    return groups


def ten_bins(histogram: Sequence[int] | None) -> Counts:
    """Return a histogram of half as many bins, as the index is customarily taken; zeros for a run without one."""
    counts = np.array(histogram if histogram else [0] * HISTOGRAM_BINS, dtype=np.float64)
    ten: Counts = counts.reshape(-1, 2).sum(axis=1)
    return ten
