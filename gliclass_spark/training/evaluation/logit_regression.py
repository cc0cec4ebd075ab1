"""Logistic regression on a model's zero-shot logits: a few-shot baseline that changes no weight of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.evaluation.evaluate import Classifier


@dataclass
class LogitRegression:
    """Logistic regression from the zero-shot logits of all labels to the label of a text, its first if it has more."""

    model: Classifier
    seed: int = 0

    def fit(self, labelled: LabelledSet) -> LogitRegression:
        """Fit to labelled texts and return self. A label without texts gets a logit of minus infinity.

        Raises TrainingError if fewer than two labels have a text.
        """
        first = [labels[0] for labels in labelled.targets]
        if len(set(first)) < 2:
            raise TrainingError(f"{labelled.name} has texts of {len(set(first))} label(s); a classifier needs two")
        logits = self.model.logits(labelled.texts, LabelSet.of(*labelled.labels, name=labelled.name))
        regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=self.seed))
        self._regression: Pipeline = regression.fit(logits, first)
        return self

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray:
        """Return log probabilities, (texts, labels), of the labels that it was fitted to, in their order."""
        zero_shot = self.model.logits(texts, labels)
        logits = np.full(zero_shot.shape, -np.inf, dtype=np.float32)
        logits[:, self._regression.classes_] = self._regression.predict_log_proba(zero_shot)
        return logits
