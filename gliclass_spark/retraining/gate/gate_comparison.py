"""Comparison of a candidate with the champion on the golden set, which neither was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gliclass_spark.inference.calibration import fit_calibration, is_one_sided, reliability
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray, probabilities
from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import Mask, passing_labels
from gliclass_spark.retraining.gate.f1_statistics import (
    detectable_gain,
    f1_gain,
    label_f1,
    loss_p_values,
    macro_f1,
    texts_for_gains,
)
from gliclass_spark.retraining.gate.golden_power import label_targets
from gliclass_spark.training.data.labelled_text import LabelledSet

# Each end of a 95% interval is a bound at 97.5%.
_INTERVAL_CONFIDENCE = 0.975
_FOLDS = 2


@dataclass(frozen=True)
class EvaluationSet:
    """Texts whose labels are all known. targets: (texts, labels), whether the label holds."""

    name: str
    texts: tuple[str, ...]
    targets: Mask

    @classmethod
    def of_labelled(cls, labelled: LabelledSet, label_set: LabelSet) -> EvaluationSet:
        """Return the golden set. Labels that the label set lacks are ignored."""
        return cls("golden", labelled.texts, label_targets(labelled, label_set))


@dataclass(frozen=True)
class Contender:
    """A model, and the calibration that comes with it: a label set that its own values are taken from, or None."""

    engine: Engine
    calibration: LabelSet | None = None

    def label_set(self, label_set: LabelSet) -> LabelSet:
        """Return the label set with the model's calibration."""
        return label_set if self.calibration is None else label_set.calibrated_by(self.calibration)

    def assign(self, texts: tuple[str, ...], label_set: LabelSet) -> Mask:
        """Return the labels that the model gives to texts, (texts, labels)."""
        own = self.label_set(label_set)
        return assign_labels(self.engine.scores(texts, own), own)


@dataclass(frozen=True)
class Quality:
    """f1: of each label that a text has or was given. macro_f1: its mean. calibration_error: expected, in [0, 1]."""

    macro_f1: float
    f1: dict[str, float]
    calibration_error: float


@dataclass(frozen=True)
class GateComparison:
    """Champion and candidate on the same texts.

    texts: their number. f1_interval: 95% confidence interval of the gain in macro-F1, and standard_error that of the
    gain, over texts. loss_p_values: for each label, the probability of its additional errors by chance alone.
    agreement: share of texts to which both give the same labels. label_texts: number of texts that have each label.
    detectable_gain: the true gain that these texts show in 80% of the cases. texts_for_gain: how many texts would
    show a gain of 0.01, and so on.
    """

    name: str
    texts: int
    champion: Quality
    candidate: Quality
    f1_interval: tuple[float, float]
    standard_error: float
    loss_p_values: dict[str, float]
    agreement: float
    label_texts: dict[str, int]
    detectable_gain: float
    texts_for_gain: dict[str, int]

    @property
    def f1_gain(self) -> float:
        return self.candidate.macro_f1 - self.champion.macro_f1


def compare(
    candidate: Contender, champion: Contender, label_set: LabelSet, golden: EvaluationSet, seed: int = 0
) -> GateComparison:
    """Return the comparison on one set. A text that a model can't score is given no label.

    A model that comes with a calibration is judged with one that is fitted to the other half of the texts, for each
    of two halves: its own was fitted to texts of this set. It keeps its own if a half has too few texts to fit to.
    """
    candidate_scores, candidate_labels = _decide(candidate, label_set, golden, seed)
    champion_scores, champion_labels = _decide(champion, label_set, golden, seed)
    gain = f1_gain(candidate_labels, champion_labels, golden.targets)
    standard_error, texts = float(gain.standard_error), len(golden.texts)
    p_values = loss_p_values(candidate_labels, champion_labels, golden.targets)
    return GateComparison(
        golden.name,
        texts,
        _quality(champion_scores, champion_labels, golden, label_set),
        _quality(candidate_scores, candidate_labels, golden, label_set),
        (float(gain.lower_bound(_INTERVAL_CONFIDENCE)), float(gain.upper_bound(_INTERVAL_CONFIDENCE))),
        standard_error,
        dict(zip(label_set.names, p_values.tolist(), strict=True)),
        float((candidate_labels == champion_labels).all(axis=1).mean()),
        dict(zip(label_set.names, golden.targets.sum(axis=0).tolist(), strict=True)),
        detectable_gain(standard_error),
        texts_for_gains(texts, standard_error),
    )


def assign_labels(scores: FloatArray, label_set: LabelSet) -> Mask:
    """Return the labels that scores give, (texts, labels): by thresholds, or the best one of a single-label set.

    A row of NaN is given none.
    """
    if label_set.multi_label:
        return passing_labels(scores, label_set)
    best: Mask = scores.argmax(axis=1)[:, np.newaxis] == np.arange(len(label_set))
    return best & ~np.isnan(scores)


def _decide(contender: Contender, label_set: LabelSet, golden: EvaluationSet, seed: int) -> tuple[FloatArray, Mask]:
    """Return scores and labels, (texts, labels), by a calibration that was fitted to other texts."""
    logits = contender.engine.logits(golden.texts, label_set)
    if contender.calibration is None:
        scores = probabilities(logits, label_set)
        return scores, assign_labels(scores, label_set)
    scores, assigned = np.empty_like(logits), np.zeros(logits.shape, dtype=bool)
    folds, is_scored = np.random.default_rng(seed).permutation(len(logits)) % _FOLDS, ~np.isnan(logits).any(axis=1)
    for fold in range(_FOLDS):
        rows, others = folds == fold, (folds != fold) & is_scored
        # Too few texts to fit to: the model is judged as it will be used.
        unfit = is_one_sided(golden.targets[others]).all()
        fitted = (
            contender.label_set(label_set)
            if unfit
            else label_set.calibrated_by(fit_calibration(label_set, logits[others], golden.targets[others]))
        )
        scores[rows] = probabilities(logits[rows], fitted)
        assigned[rows] = assign_labels(scores[rows], fitted)
    return scores, assigned


def _quality(scores: FloatArray, assigned: Mask, golden: EvaluationSet, label_set: LabelSet) -> Quality:
    f1 = label_f1(assigned, golden.targets)
    error = reliability(np.nan_to_num(scores), golden.targets).error
    by_label = {name: float(value) for name, value in zip(label_set.names, f1, strict=True) if not np.isnan(value)}
    return Quality(float(macro_f1(assigned, golden.targets)), by_label, error)
