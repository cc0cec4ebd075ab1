"""How good a model is on labelled text that it was not trained on, and how fast."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from sklearn.metrics import f1_score

from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.labelled_text import LabelledSet, shared_texts

# What loads with the first texts is not what a text costs.
_WARM_UP_TEXTS = 4


class Classifier(Protocol):
    """An Engine, or what stands in for one."""

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray: ...


@dataclass(frozen=True)
class Score:
    """How well one contender found the labels of one set.

    macro_f1 is the mean of `per_label`, the F1 of each label that a text has or was given; micro_f1
    counts all answers alike: with one answer a text it is the accuracy. All in [0, 1].
    `shots`: labelled texts of each label that the contender saw, drawn by `seed`.
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
    """At most `max_rows` texts, drawn by the seed."""
    return labelled.rows(np.random.default_rng(seed).permutation(len(labelled))[:max_rows].tolist())


def score(contender: Classifier, asked: LabelledSet, *, name: str, shots: int = 0, seed: int = 0) -> Score:
    """Ask for each text which one label of the whole set fits best.

    An answer is right if it is one of the text's labels. A text that can't be scored has no answer,
    and counts as wrong.
    """
    label_set = LabelSet.of(*asked.labels, name=asked.name, multi_label=False)
    contender.logits(asked.texts[:_WARM_UP_TEXTS], label_set)
    started = time.perf_counter()
    logits = contender.logits(asked.texts, label_set)
    seconds = time.perf_counter() - started
    unscored = np.isnan(logits).any(axis=1)
    answers = np.where(unscored, -1, np.nan_to_num(logits).argmax(axis=1)).tolist()
    true = [answer if answer in labels else labels[0] for answer, labels in zip(answers, asked.targets, strict=True)]
    present = sorted({*true, *answers} - {-1})
    per_label = f1_score(true, answers, labels=present, average=None, zero_division=0)
    return Score(
        contender=name,
        name=asked.name,
        labels=len(asked.labels),
        rows=len(asked),
        macro_f1=float(per_label.mean()),
        micro_f1=float(np.mean([answer == label for answer, label in zip(answers, true, strict=True)])),
        per_label={asked.labels[label]: float(f1) for label, f1 in zip(present, per_label, strict=True)},
        texts_per_s=len(asked) / seconds,
        shots=shots,
        seed=seed,
    )


def refuse_overlap(learned: LabelledSet, asked: LabelledSet) -> None:
    """Raises TrainingError if a text that is asked was learned from."""
    shared = shared_texts(asked, learned)
    if shared:
        example = asked.texts[min(shared)][:60]
        raise TrainingError(
            f"{len(shared)} of the {len(asked)} texts of {asked.name} that are asked stand among those learned from "
            f"({example!r}, ...): the figure would flatter; take them out, or allow it with --allow-overlap"
        )
