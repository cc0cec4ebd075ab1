"""Forgetting: how much a training costs on labels that it was not about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.evaluation.evaluate import Classifier, sample, score

_MAX_ROWS = 500


@dataclass(frozen=True)
class Forgetting:
    """Macro-F1 of the best label of each text of a set, before and after the training."""

    name: str
    texts: int
    champion: float
    candidate: float

    @property
    def loss(self) -> float:
        return self.champion - self.candidate


def measure_forgetting(
    candidate: Classifier, champion: Classifier, sets: Sequence[LabelledSet], seed: int
) -> tuple[Forgetting, ...]:
    """Return the forgetting on each set: both models on the same texts, at most 500, with all labels of the set."""
    results = []
    for labelled in (sample(full_set, _MAX_ROWS, seed) for full_set in sets):
        before, after = (score(model, labelled, name=labelled.name).macro_f1 for model in (champion, candidate))
        results.append(Forgetting(labelled.name, len(labelled), before, after))
    return tuple(results)
