"""Drift of scores since a promotion, beyond what exchanging whole runs explains, however often it is looked at.

Documents of one night resemble each other, so a test that takes each of them for an independent draw finds drift in any
two nights. Tests over runs do not: if nothing has changed, any run could have come first.

Two tests share the errors. In the first weeks a permutation test compares the first runs with the last ones, at a few
numbers of runs alone, each with its part of the errors (alpha spending); it has most power with few runs. Martingales
over all runs, which may be looked at after each, have it later (`drift_martingale`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.runs.due.drift_martingale import wealth
from gliclass_spark.runs.manifest import HISTOGRAM_BINS, Manifest

# Numbers of runs at which the permutation test looks, and the most runs of each of its two groups: eight runs can be
# exchanged with eight others in 6,435 ways.
LOOKS = (14, 21, 28, 42)
MAX_RUNS = 8
# The part of the significance that the looks share; the martingales have the rest.
_SHARE_OF_LOOKS = 2 / 3
# Below, a change counts as small, however certain it is (Lewis, An Introduction to Credit Scoring, 1994).
MIN_INDEX = 0.1
# Added to each bin, so that an empty one has a logarithm (Krichevsky and Trofimov's estimate).
_SMOOTHING = 0.5

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreDrift:
    """The drift of the scores over runs.

    since: the number of the first run after which it was shown, None if it is not. runs: of each of the two groups that
    are compared now, the first and the last ones. indices: the population stability index of each label between them,
    of those labels in which it is at least MIN_INDEX, largest first; empty unless drift is shown.
    """

    runs: int
    since: int | None = None
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

    significance: the probability that drift is ever shown, at any number of runs, if nothing changes.
    """
    if len(runs) < LOOKS[0]:
        return None
    labels = sorted({label for run in runs for label in run.score_histograms})
    histograms = np.array([[ten_bins(run.score_histograms.get(label)) for label in labels] for run in runs])
    since = drift_shown_at(histograms, significance)
    size = min(len(runs) // 2, MAX_RUNS)
    if since is None:
        return ScoreDrift(size)
    indices = stability_index(histograms[:size].sum(axis=0), histograms[-size:].sum(axis=0))
    by_label = sorted(zip(labels, indices.tolist(), strict=True), key=lambda item: -item[1])
    return ScoreDrift(size, since, {label: round(index, 4) for label, index in by_label if index >= MIN_INDEX})


def drift_shown_at(histograms: Counts, significance: float) -> int | None:
    """Return the number of runs after which drift was first shown, None if it was not.

    histograms: (runs, labels, bins).
    """
    of_look = significance * _SHARE_OF_LOOKS / len(LOOKS)
    shown = [look for look in LOOKS if look <= len(histograms) and exchange_p_value(histograms[:look]) <= of_look]
    wealths = wealth(_mean_scores(histograms))
    enough = wealths.shape[1] / (significance * (1.0 - _SHARE_OF_LOOKS))
    shown += (np.flatnonzero((wealths >= enough).any(axis=1))[:1] + 1).tolist()
    return min(shown, default=None)


def exchange_p_value(histograms: Counts) -> float:
    """Return the share of the ways to exchange the first and the last runs that differ as much, (runs, labels, bins).

    As much is the largest index of all labels, which corrects for their number (Westfall and Young, 1993).
    """
    size = min(len(histograms) // 2, MAX_RUNS)
    compared = np.concatenate([histograms[:size], histograms[-size:]])
    groups = _groups(size)
    largest = np.zeros(len(groups))
    for of_label in np.moveaxis(compared, 1, 0):
        first = groups @ of_label
        largest = np.maximum(largest, stability_index(first, of_label.sum(axis=0) - first))
    return float((largest >= largest[0] - 1e-12).mean())  # the first of the ways is what happened


def ten_bins(histogram: Sequence[int] | None) -> Counts:
    """Return a histogram of half as many bins, as the index is customarily taken; zeros for a run without one."""
    counts = np.array(histogram if histogram else [0] * HISTOGRAM_BINS, dtype=np.float64)
    ten: Counts = counts.reshape(-1, 2).sum(axis=1)
    return ten


def _mean_scores(histograms: Counts) -> Counts:
    """Return the mean score of each run and label, in bins, (runs, labels)."""
    smoothed = histograms + _SMOOTHING
    means: Counts = smoothed @ np.arange(histograms.shape[-1]) / smoothed.sum(axis=-1)
    return means


@cache
def _groups(size: int) -> Counts:
    """Return the ways to split 2 * size runs into two equal groups, (ways, runs): 1 for a run of the first group.

    An exchange of both groups gives the same index, so the first run stays in the first group.
    """
    ways = [(0, *others) for others in combinations(range(1, 2 * size), size - 1)]
    groups = np.zeros((len(ways), 2 * size))
    for row, members in enumerate(ways):
        groups[row, list(members)] = 1.0
    return groups
