"""Drift: how far the labels' shares and scores of a run moved from those of the runs before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import sqrt

import numpy as np

from gliclass_spark.runs.due.score_drift import stability_index, ten_bins
from gliclass_spark.runs.manifest import SUCCEEDED, Manifest

REFERENCE_RUNS = 7
MIN_DOCUMENTS = 100
# The customary levels of the index, first in E. M. Lewis, An Introduction to Credit Scoring (1994).
MODERATE_PSI = 0.1
LARGE_PSI = 0.25

# Drift is reported when sampling alone would give as large an index in fewer than one of 1000 comparisons: each run
# makes two for each label.
_Z_ONE_IN_1000 = 3.0902


class Level(IntEnum):
    """The level of a drift, lowest first."""

    STEADY = 0
    UNKNOWN = 1
    MODERATE = 2
    LARGE = 3


@dataclass(frozen=True)
class LabelDrift:
    """One label in this run, compared with the reference runs pooled.

    documents: those that have the label; share: of the scored documents, in [0, 1]. histogram: scores by
    equal parts of [0, 1]. shares: the label's share in each reference run, oldest first. Without a comparison
    the reference fields and indices are None, and the level is UNKNOWN.
    """

    label: str
    documents: int
    share: float
    histogram: Sequence[int]
    shares: Sequence[float] = ()
    reference_share: float | None = None
    reference_histogram: Sequence[int] | None = None
    share_psi: float | None = None
    score_psi: float | None = None
    level: Level = Level.UNKNOWN


@dataclass(frozen=True)
class Drift:
    """The drift of a run's labels, largest first.

    documents, reference_documents: how many were scored. reference: the tag manifests compared with.
    other_model: whether another model tagged some of them. not_compared: why nothing is compared, if so.
    """

    labels: Sequence[LabelDrift]
    documents: int
    reference: Sequence[Manifest] = ()
    reference_documents: int = 0
    other_model: bool = False
    not_compared: str | None = None


def psi(expected: Sequence[int], actual: Sequence[int]) -> float:
    """Return the population stability index of two histograms over the same bins, see `stability_index`.

    It is 0 for equal shares, symmetric, and unbounded above; below 0.1 counts as steady, from 0.25 as a large change
    (Lewis 1994; Siddiqi, Credit Risk Scorecards, 2006).
    """
    return float(stability_index(np.array(expected, dtype=np.float64), np.array(actual, dtype=np.float64)))


def critical_value(expected: int, actual: int, bins: int) -> float:
    """Return the index that two samples of these sizes from one population exceed once in 1000 times.

    The index over (1/n + 1/m) is about chi-squared with bins - 1 degrees of freedom (Yurdakul and
    Naranjo, Statistical properties of the population stability index, 2020); Wilson and Hilferty's cube
    gives its quantile.
    """
    freedom = bins - 1
    quantile = freedom * (1 - 2 / (9 * freedom) + _Z_ONE_IN_1000 * sqrt(2 / (9 * freedom))) ** 3
    return (1 / expected + 1 / actual) * quantile


def drift_level(index: float, critical: float) -> Level:
    """Return the level of an index; UNKNOWN for one that is large but not above its critical value."""
    if index < MODERATE_PSI:
        return Level.STEADY
    if index <= critical:
        return Level.UNKNOWN
    return Level.LARGE if index >= LARGE_PSI else Level.MODERATE


def measure_drift(tag: Manifest, history: Sequence[Manifest]) -> Drift:
    """Compare a tag job with the last REFERENCE_RUNS that used the same label set. history: oldest first."""
    documents = tag.scored
    comparable = [
        earlier
        for earlier in history
        if earlier.job == tag.job
        and earlier.status == SUCCEEDED
        and earlier.run_id != tag.run_id
        and earlier.label_set_hash == tag.label_set_hash
        and earlier.scored > 0
    ]
    reference = comparable[-REFERENCE_RUNS:]
    reference_documents = sum(earlier.scored for earlier in reference)
    not_compared = _why_not_compared(documents, reference, reference_documents)
    # A label that no document has may be missing from the counts, but not from the histograms.
    names = dict.fromkeys([*tag.score_histograms, *tag.label_counts])
    labels = [_label_drift(tag, name, documents, [] if not_compared else reference) for name in names]
    return Drift(
        labels=sorted(labels, key=lambda label: (-label.level, -label.share)),
        documents=documents,
        reference=reference,
        reference_documents=reference_documents,
        other_model=any(earlier.model_digest != tag.model_digest for earlier in reference),
        not_compared=not_compared,
    )


def _why_not_compared(documents: int, reference: Sequence[Manifest], reference_documents: int) -> str | None:
    if documents == 0:
        return "This run scored no document, so there is nothing to compare."
    if not reference:
        return "No earlier run used this label set, so there is nothing to compare with yet."
    if documents < MIN_DOCUMENTS:
        return f"Too few documents to compare: {documents} were scored, at least {MIN_DOCUMENTS} are needed."
    if reference_documents < MIN_DOCUMENTS:
        return (
            f"Too few documents to compare with: the runs before scored {reference_documents}, "
            f"at least {MIN_DOCUMENTS} are needed."
        )
    return None


def _label_drift(tag: Manifest, name: str, documents: int, reference: Sequence[Manifest]) -> LabelDrift:
    count = tag.label_counts.get(name, 0)
    share, histogram = count / documents if documents else 0.0, tag.score_histograms.get(name, [])
    if not reference:
        return LabelDrift(name, count, share, histogram)
    reference_count = sum(earlier.label_counts.get(name, 0) for earlier in reference)
    reference_documents = sum(earlier.scored for earlier in reference)
    histograms = [earlier.score_histograms[name] for earlier in reference if name in earlier.score_histograms]
    reference_histogram = [sum(bins) for bins in zip(*histograms, strict=True)]
    share_psi = psi([reference_count, reference_documents - reference_count], [count, documents - count])
    levels = [drift_level(share_psi, critical_value(reference_documents, documents, 2))]
    score_psi = None
    if any(histogram) and any(reference_histogram):
        expected, actual = (ten_bins(counts).tolist() for counts in (reference_histogram, histogram))
        score_psi = psi(expected, actual)
        levels.append(drift_level(score_psi, critical_value(sum(expected), sum(actual), len(expected))))
    return LabelDrift(
        label=name,
        documents=count,
        share=share,
        histogram=histogram,
        shares=[earlier.label_counts.get(name, 0) / earlier.scored for earlier in reference],
        reference_share=reference_count / reference_documents,
        reference_histogram=reference_histogram,
        share_psi=share_psi,
        score_psi=score_psi,
        level=max(levels),
    )
