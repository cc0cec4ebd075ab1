"""Logits of texts whose labels are known, their halves and draws, and the errors of a calibration on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from gliclass_spark.inference.calibration import (
    Reliability,
    Ridge,
    Truth,
    fit_calibration,
    is_one_sided,
    mean_label_error,
    reliability,
)
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray, probabilities
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.evaluation.evaluate import sample

SEED = 0
FEW = 100


@dataclass(frozen=True)
class JudgedLogits:
    """Logits of texts and whether each label is true, (texts, labels) each."""

    label_set: LabelSet
    logits: FloatArray
    truth: Truth

    def rows(self, positions: slice | NDArray[np.intp]) -> JudgedLogits:
        return JudgedLogits(self.label_set, self.logits[positions], self.truth[positions])

    def halves(self) -> tuple[JudgedLogits, JudgedLogits]:
        half = len(self.logits) // 2
        return self.rows(slice(half)), self.rows(slice(half, None))

    def draws(self, texts: int, count: int) -> Iterator[JudgedLogits]:
        """Yield so many draws of some of the texts, each with two labels or more."""
        drawn = 0
        for seed in range(10 * count):
            part = self.rows(np.random.default_rng(seed).permutation(len(self.logits))[:texts])
            if drawn < count and not is_one_sided(part.truth).all():
                drawn += 1
                yield part

    def fitted(self, ridge: Ridge) -> LabelSet:
        return fit_calibration(self.label_set, self.logits, self.truth, ridge)

    def one_temperature(self) -> LabelSet:
        def loss(log_temperature: float) -> float:
            return self.log_loss(self.label_set.model_copy(update={"temperature": float(np.exp(log_temperature))}))

        best = float(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
        return self.label_set.model_copy(update={"temperature": float(np.exp(best))})

    def log_loss(self, label_set: LabelSet) -> float:
        """Return the mean log loss of the label set's scores, in nats for each text and label."""
        scores = probabilities(self.logits, label_set).astype(np.float64).clip(1e-7, 1 - 1e-7)
        return float(-np.log(np.where(self.truth, scores, 1 - scores)).mean())

    def errors(self, label_set: LabelSet) -> dict[str, float]:
        return errors(probabilities(self.logits, label_set), self.truth)

    def reliability(self, label_set: LabelSet) -> Reliability:
        return reliability(probabilities(self.logits, label_set), self.truth)


def errors(scores: FloatArray, truth: Truth) -> dict[str, float]:
    """Return the calibration error over all scores, the mean of that of each label alone, and both debiased."""
    columns = range(scores.shape[1])
    return {
        "pooled": reliability(scores, truth).error,
        "labels": mean_label_error(scores, truth),
        "debiased_pooled": debiased_error(reliability(scores, truth)),
        "debiased_labels": float(
            np.mean([debiased_error(reliability(scores[:, label], truth[:, label])) for label in columns])
        ),
    }


def debiased_error(diagram: Reliability) -> float:
    """Return the root mean square calibration error without what the bins' sampling adds.

    The squared difference of each bin less the variance of its accuracy (Broecker 2012; Kumar et al., Verified
    Uncertainty Calibration, arXiv 1909.10155, section 4.2). Bins of one score are left out.
    """
    several = diagram.counts > 1
    counts, accuracy = diagram.counts[several], diagram.accuracy[several].astype(np.float64)
    squared = (diagram.confidence[several] - accuracy) ** 2 - accuracy * (1 - accuracy) / (counts - 1)
    return float(np.sqrt(max((counts * squared).sum() / (counts.sum() or 1.0), 0.0)))


def judged_logits(engine: Engine, labelled: LabelledSet, max_rows: int) -> JudgedLogits:
    rows = sample(labelled, max_rows, SEED)
    label_set = LabelSet.of(*rows.labels, name=rows.name)
    truth = np.zeros((len(rows), len(label_set)), dtype=bool)
    for row, labels in enumerate(rows.targets):
        truth[row, list(labels)] = True
    return JudgedLogits(label_set, engine.logits(rows.texts, label_set), truth)
