"""Drift: whether the labels, and the scores behind them, fall as they did in the runs before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import log, sqrt

from gliclass_spark.runs.manifest import SUCCEEDED, Manifest

REFERENCE_RUNS = 7
MIN_DOCUMENTS = 100
# The customary levels of the index, first in E. M. Lewis, An Introduction to Credit Scoring (1994).
MODERATE_PSI = 0.1
LARGE_PSI = 0.25

# A drift is told when chance alone would make as large an index in fewer than one of 1000 comparisons:
# a page holds two for each label, night after night.
_Z_ONE_IN_1000 = 3.0902
# Added to each bin, so that an empty one has a logarithm (Krichevsky and Trofimov's estimate).
_SMOOTHING = 0.5


class Level(IntEnum):
    """How far something moved, the calmest first."""

    STEADY = 0
    UNKNOWN = 1
    MODERATE = 2
    LARGE = 3


@dataclass(frozen=True)
class LabelDrift:
    """One label in this run beside the reference runs taken together.

    documents: those that have the label; share: of the scored documents, in [0, 1]. histogram: scores by
    equal parts of [0, 1]. shares: the reference runs' own shares, oldest first. The references, the
    indices and the level are None, None and UNKNOWN when nothing can be compared.
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
    """The labels of a run, those that moved most first. `unknown` says why nothing is compared, if so.

    documents, reference_documents: how many were scored. reference: the tag manifests that this run is
    compared with. other_model: some of them came from another model.
    """

    labels: Sequence[LabelDrift]
    documents: int
    reference: Sequence[Manifest] = ()
    reference_documents: int = 0
    other_model: bool = False
    unknown: str | None = None


def psi(expected: Sequence[int], actual: Sequence[int]) -> float:
    """Population stability index of two histograms over the same bins: sum of (p - q) ln(p / q).

    p and q are the bins' shares in `actual` and `expected`, after 0.5 was added to each count. It is 0
    for equal shares, the same when the two change places, and has no upper bound; below 0.1 counts as
    steady, from 0.25 as a large change (Lewis 1994; Siddiqi, Credit Risk Scorecards, 2006).
    """
    of_actual, of_expected = _shares(actual), _shares(expected)
    return sum((p - q) * log(p / q) for p, q in zip(of_actual, of_expected, strict=True))


def chance(expected: int, actual: int, bins: int) -> float:
    """The index that two samples of one population, of these sizes, stay below 999 times in 1000.

    The index over (1/n + 1/m) is about chi-squared with bins - 1 degrees of freedom (Yurdakul and
    Naranjo, Statistical properties of the population stability index, 2020); Wilson and Hilferty's cube
    gives its quantile.
    """
    freedom = bins - 1
    quantile = freedom * (1 - 2 / (9 * freedom) + _Z_ONE_IN_1000 * sqrt(2 / (9 * freedom))) ** 3
    return (1 / expected + 1 / actual) * quantile


def level(index: float, by_chance: float) -> Level:
    """The level of an index. UNKNOWN: it would be a drift, but chance makes as much from so few documents."""
    if index < MODERATE_PSI:
        return Level.STEADY
    if index <= by_chance:
        return Level.UNKNOWN
    return Level.LARGE if index >= LARGE_PSI else Level.MODERATE


def scored(manifest: Manifest) -> int:
    """The documents that a tag job gave scores to."""
    return (manifest.tagged or 0) - sum(manifest.errors.values())


def measure(tag: Manifest, history: Sequence[Manifest]) -> Drift:
    """Compare a tag job with the last REFERENCE_RUNS that asked the same labels. `history`: oldest first."""
    documents = scored(tag)
    same = [
        earlier
        for earlier in history
        if earlier.job == tag.job
        and earlier.status == SUCCEEDED
        and earlier.run_id != tag.run_id
        and earlier.label_set_hash == tag.label_set_hash
        and scored(earlier) > 0
    ]
    reference = same[-REFERENCE_RUNS:]
    reference_documents = sum(map(scored, reference))
    unknown = _unknown(documents, reference, reference_documents)
    # A label that no document has may be missing from the counts, but not from the histograms.
    names = dict.fromkeys([*tag.score_histograms, *tag.label_counts])
    labels = [_label(tag, name, documents, [] if unknown else reference) for name in names]
    return Drift(
        labels=sorted(labels, key=lambda label: (-label.level, -label.share)),
        documents=documents,
        reference=reference,
        reference_documents=reference_documents,
        other_model=any(earlier.model_digest != tag.model_digest for earlier in reference),
        unknown=unknown,
    )


def _unknown(documents: int, reference: Sequence[Manifest], reference_documents: int) -> str | None:
    if documents == 0:
        return "This run scored no document, so there is nothing to compare."
    if not reference:
        return "No earlier run asked these labels, so there is nothing to compare with yet."
    if documents < MIN_DOCUMENTS:
        return f"Too few documents to tell: {documents} were scored, from {MIN_DOCUMENTS} on they are compared."
    if reference_documents < MIN_DOCUMENTS:
        return (
            f"Too few documents to tell: the runs before scored {reference_documents}, "
            f"from {MIN_DOCUMENTS} on they are compared with."
        )
    return None


def _label(tag: Manifest, name: str, documents: int, reference: Sequence[Manifest]) -> LabelDrift:
    count = tag.label_counts.get(name, 0)
    found = LabelDrift(name, count, count / documents if documents else 0.0, tag.score_histograms.get(name, []))
    if not reference:
        return found
    before = sum(earlier.label_counts.get(name, 0) for earlier in reference)
    before_documents = sum(map(scored, reference))
    histograms = [earlier.score_histograms[name] for earlier in reference if name in earlier.score_histograms]
    before_histogram = [sum(bins) for bins in zip(*histograms, strict=True)]
    share_psi = psi([before, before_documents - before], [count, documents - count])
    levels = [level(share_psi, chance(before_documents, documents, 2))]
    score_psi = None
    if any(found.histogram) and any(before_histogram):
        expected, actual = _in_pairs(before_histogram), _in_pairs(found.histogram)
        score_psi = psi(expected, actual)
        levels.append(level(score_psi, chance(sum(expected), sum(actual), len(expected))))
    return LabelDrift(
        label=name,
        documents=count,
        share=found.share,
        histogram=found.histogram,
        shares=[earlier.label_counts.get(name, 0) / scored(earlier) for earlier in reference],
        reference_share=before / before_documents,
        reference_histogram=before_histogram,
        share_psi=share_psi,
        score_psi=score_psi,
        level=max(levels),
    )


def _in_pairs(histogram: Sequence[int]) -> list[int]:
    """Half as many bins, as the index is customarily taken over ten."""
    return [left + right for left, right in zip(histogram[::2], histogram[1::2], strict=True)]


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + _SMOOTHING * len(counts)
    return [(count + _SMOOTHING) / total for count in counts]
