"""How good a model is on labelled text that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import f1_score

from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.labelled import LabelledSet


@dataclass(frozen=True)
class SetScore:
    """Macro-F1 in [0, 1] on `rows` texts of one labelled set with `labels` labels."""

    name: str
    labels: int
    rows: int
    macro_f1: float


def zero_shot(engine: Engine, labelled: LabelledSet, *, max_rows: int, seed: int = 0) -> SetScore:
    """Ask for each text which one label of the whole set fits best, and give the macro-F1 of the answers.

    At most `max_rows` texts, drawn by `seed`, are asked. An answer is right if it is one of the
    text's labels. Labels that no drawn text has, and that were never answered, do not count.
    """
    drawn = np.random.default_rng(seed).permutation(len(labelled))[:max_rows]
    label_set = LabelSet.of(*labelled.labels, name=labelled.name, multi_label=False)
    answered = engine.logits([labelled.texts[row] for row in drawn], label_set).argmax(axis=1)
    true = [
        answer if answer in labelled.targets[row] else labelled.targets[row][0]
        for row, answer in zip(drawn, answered.tolist(), strict=True)
    ]
    f1 = f1_score(true, answered, average="macro", zero_division=0)
    return SetScore(labelled.name, len(labelled.labels), len(drawn), float(f1))
