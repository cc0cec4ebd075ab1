"""Evaluation on labelled text: F1 of the best label of each text, and texts per second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.labelled_text import LabelledSet, shared_texts

# What is loaded lazily with the first texts is not timed.
_WARM_UP_TEXTS = 4


class Classifier(Protocol):
    """An Engine, or a baseline in its place."""

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray: ...


@dataclass(frozen=True)
class Score:
    """The scores of one model or baseline, the contender, on one labelled set.

    macro_f1: mean of `per_label`, the F1 of each label that is a text's true or predicted label. micro_f1: over all
    texts; with one predicted label for each it is the accuracy. All in [0, 1]. name: of the set. labels, rows: its
    size. shots: texts of each label that the contender was trained on, drawn with `seed`.
    """

    contender: str
    name: str
    labels: int
    rows: int
    macro_f1: float
    micro_f1: float
    per_label: dict[str, float]
    texts_per_s: float
    shots: int = 0
    seed: int = 0


def sample(labelled: LabelledSet, max_rows: int, seed: int = 0) -> LabelledSet:
    """Return at most `max_rows` texts of the set, drawn with the seed."""
    return labelled.rows(np.random.default_rng(seed).permutation(len(labelled))[:max_rows].tolist())


def score(
    classifier: Classifier,
    labelled: LabelledSet,
    *,
    name: str,
    label_set: LabelSet | None = None,
    shots: int = 0,
    seed: int = 0,
) -> Score:
    """Return the score of the best label of each text, among all labels of the set.

    A prediction is right if it is one of the text's labels. A text that can't be scored counts as wrong. name: of the
    contender. label_set: of the same labels, in their order, for its descriptions, prompt and examples.
    """
    from sklearn.metrics import f1_score  # takes seconds to import, and a gate without retention sets needs it not

    label_set = label_set or LabelSet.of(*labelled.labels, name=labelled.name, multi_label=False)
    classifier.logits(labelled.texts[:_WARM_UP_TEXTS], label_set)
    started = time.perf_counter()
    logits = classifier.logits(labelled.texts, label_set)
    seconds = time.perf_counter() - started
    unscored = np.isnan(logits).any(axis=1)
    predicted = np.where(unscored, -1, np.nan_to_num(logits).argmax(axis=1)).tolist()
    true = [label if label in labels else labels[0] for label, labels in zip(predicted, labelled.targets, strict=True)]
    present = sorted({*true, *predicted} - {-1})
    per_label = f1_score(true, predicted, labels=present, average=None, zero_division=0)
    return Score(
        contender=name,
        name=labelled.name,
        labels=len(labelled.labels),
        rows=len(labelled),
        macro_f1=float(per_label.mean()),
        micro_f1=float(np.mean([label == truth for label, truth in zip(predicted, true, strict=True)])),
        per_label={labelled.labels[label]: float(f1) for label, f1 in zip(present, per_label, strict=True)},
        texts_per_s=len(labelled) / seconds,
        shots=shots,
        seed=seed,
    )


def refuse_overlap(evaluated: LabelledSet, trained: LabelledSet) -> None:
    """Raise TrainingError if an evaluated text is among those of the training."""
    shared = shared_texts(evaluated, trained)
    if shared:
        example = evaluated.texts[min(shared)][:60]
        raise TrainingError(
            f"{len(shared)} of the {len(evaluated)} evaluated texts of {evaluated.name} are training examples, too "
            f"({example!r}, ...): the score would be too high; remove them, or allow it with --allow-overlap"
        )
