"""Calibration of a label set on labelled texts, evaluated on texts that it was not fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.calibration import Reliability, Truth, fit_calibration, reliability
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import probabilities
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.labelled_text import LabelledSet


@dataclass(frozen=True)
class Calibration:
    """A calibrated label set, and the reliability of its probabilities on texts that it was not fitted to.

    before, after: reliability without and with the calibration. fitted_on, evaluated_on: numbers of texts.
    """

    label_set: LabelSet
    before: Reliability
    after: Reliability
    fitted_on: int
    evaluated_on: int


def calibrate(engine: Engine, label_set: LabelSet, labelled: LabelledSet, *, max_rows: int, seed: int) -> Calibration:
    """Fit temperatures and thresholds to one half of the texts, drawn with the seed, and evaluate on the other.

    Texts that can't be scored are left out. Raises TrainingError if the texts have labels that the label set lacks,
    or if there are too few to calibrate with.
    """
    unknown = sorted(set(labelled.labels) - set(label_set.names))
    if unknown:
        raise TrainingError(
            f"{labelled.name} has {len(unknown)} label(s) that {label_set.name!r} lacks: {', '.join(unknown[:5])}; "
            "label the texts with the names of the label set"
        )
    rows = labelled.rows(np.random.default_rng(seed).permutation(len(labelled))[:max_rows].tolist())
    logits = engine.logits(rows.texts, label_set)
    truth: Truth = np.zeros(logits.shape, dtype=bool)
    columns = [label_set.names.index(name) for name in rows.labels]
    for row, labels in enumerate(rows.targets):
        truth[row, [columns[label] for label in labels]] = True
    scored = ~np.isnan(logits).any(axis=1)
    logits, truth = logits[scored], truth[scored]
    half = len(logits) // 2
    calibrated = fit_calibration(label_set, logits[:half], truth[:half])
    before, after = (
        reliability(probabilities(logits[half:], labels), truth[half:]) for labels in (label_set, calibrated)
    )
    return Calibration(calibrated, before, after, half, len(logits) - half)
