"""Calibration of a label set on labelled texts, evaluated on texts that it was not fitted to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gliclass_spark.inference.calibration import (
    Reliability,
    Truth,
    fit_calibration,
    is_one_sided,
    mean_label_error,
    reliability,
)
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import probabilities
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.labelled_text import LabelledSet, in_label_set
from gliclass_spark.training.evaluation.evaluate import sample

_MAX_LISTED = 5
# Below it, the error of a fit is more of chance than of the model (benchmarks/quality/calibration.py).
_FEW_TEXTS = 100


@dataclass(frozen=True)
class Calibration:
    """A calibrated label set, and the reliability of its probabilities on texts that it was not fitted to.

    before, after: reliability without and with the calibration, over all pairs of text and label. label_error_before,
    label_error_after: the calibration error of each label alone, averaged over labels. fitted_on, evaluated_on: numbers
    of texts. notes: what the texts could not show, a line each.
    """

    label_set: LabelSet
    before: Reliability
    after: Reliability
    label_error_before: float
    label_error_after: float
    fitted_on: int
    evaluated_on: int
    notes: tuple[str, ...] = ()


def calibrate(engine: Engine, label_set: LabelSet, labelled: LabelledSet, *, max_rows: int, seed: int) -> Calibration:
    """Fit temperatures, biases and thresholds to one half of the texts, drawn with the seed, and evaluate on the other.

    Texts that can't be scored are left out. Raises TrainingError if the texts have labels that the label set lacks,
    or if there are too few to calibrate with.
    """
    rows = sample(in_label_set(labelled, label_set), max_rows, seed)
    logits = engine.logits(rows.texts, label_set)
    truth: Truth = np.zeros(logits.shape, dtype=bool)
    for row, labels in enumerate(rows.targets):
        truth[row, list(labels)] = True
    scored = ~np.isnan(logits).any(axis=1)
    logits, truth = logits[scored], truth[scored]
    half = len(logits) // 2
    calibrated = fit_calibration(label_set, logits[:half], truth[:half])
    before, after = (probabilities(logits[half:], labels) for labels in (label_set, calibrated))
    return Calibration(
        calibrated,
        reliability(before, truth[half:]),
        reliability(after, truth[half:]),
        mean_label_error(before, truth[half:]),
        mean_label_error(after, truth[half:]),
        half,
        len(logits) - half,
        tuple(_notes(label_set, truth[:half])),
    )


def _notes(label_set: LabelSet, truth: Truth) -> Iterator[str]:
    """Yield what the texts that were fitted to, (texts, labels), could not show."""
    if len(truth) < _FEW_TEXTS:
        yield f"fitted to {len(truth)} texts; with {_FEW_TEXTS} or more the scores are more reliable"
    one_sided = np.flatnonzero(is_one_sided(truth))
    if len(one_sided):
        listed = ", ".join(label_set.names[column] for column in one_sided[:_MAX_LISTED])
        more = ", ..." if len(one_sided) > _MAX_LISTED else ""
        yield (
            f"none or all of the texts have {len(one_sided)} of {len(label_set)} labels ({listed}{more}): they keep "
            "their thresholds, and their scores follow the set's; give texts with and without them"
        )
