"""Labels that no document was given since a promotion, although documents had them before."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, lgamma

from gliclass_spark.runs.manifest import Manifest


def never_given(runs: Sequence[Manifest]) -> list[str]:
    """Return the labels that no document of these tag jobs was given, in their order."""
    names = dict.fromkeys(label for run in runs for label in run.score_histograms)
    return [label for label in names if not any(run.label_counts.get(label) for run in runs)]


def lost_labels(runs: Sequence[Manifest], earlier: Sequence[Manifest], significance: float) -> list[str]:
    """Return the labels that are never given in `runs` and were in `earlier`, beyond chance.

    Fisher's exact test of none among the documents of `runs`, with Bonferroni's correction for the number of labels. It
    may be looked at after each run: with more documents none becomes less probable, so a label is lost at any look only
    if no document had it when the probability first fell below the level, which is as improbable as the level.
    """
    documents, documents_before = (sum(run.scored for run in group) for group in (runs, earlier))
    label_count = len({label for run in runs for label in run.score_histograms})
    return [
        label
        for label in never_given(runs)
        if _probability_of_none(
            sum(run.label_counts.get(label, 0) for run in earlier), documents_before, documents_before + documents
        )
        <= significance / label_count
    ]


def _probability_of_none(given: int, before: int, total: int) -> float:
    """Return the probability that all of `given` documents among `total` are among the first `before`."""
    if not given or given > before:  # a run may have counted a document twice
        return 1.0
    return exp(lgamma(before + 1) - lgamma(before - given + 1) + lgamma(total - given + 1) - lgamma(total + 1))
