"""What a training forgot: how well a model still finds labels that the training was not about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.evaluation.evaluate import Classifier, sample, score

_MAX_ROWS = 500


@dataclass(frozen=True)
class Forgetting:
    """Macro-F1 of the best label of each text, over at most 500 of them, before the training and behind it."""

    name: str
    texts: int
    champion: float
    candidate: float

    @property
    def loss(self) -> float:
        return self.champion - self.candidate


def forgetting(
    candidate: Classifier, champion: Classifier, sets: Sequence[LabelledSet], seed: int
) -> tuple[Forgetting, ...]:
    """Of each set, every label asked of the same texts by both."""
    found = []
    for asked in (sample(labelled, _MAX_ROWS, seed) for labelled in sets):
        before, behind = (score(model, asked, name=asked.name).macro_f1 for model in (champion, candidate))
        found.append(Forgetting(asked.name, len(asked), before, behind))
    return tuple(found)
