"""A stand-in for an engine, with given scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import FloatArray


class Scored:
    """An engine with given scores; a text is a row's number."""

    def __init__(self, scores: FloatArray) -> None:
        self._scores = scores

    def scores(self, texts: Sequence[str], labels: LabelSet) -> FloatArray:
        return self._scores[[int(text) for text in texts]]

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray:
        scores = self.scores(texts, labels)
        return np.log(scores / (1 - scores))
