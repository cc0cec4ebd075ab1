"""One scale and offset for all labels: the scorer's, fitted to texts that the model was not trained on.

So that, for labels that the model has never seen, the probability of one label of several is right on average, and 0.5
is a threshold to start with. Scale and offset change no order of the labels of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from gliclass_spark.config.training import SamplingConfig
from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import Label, LabelSet
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.training.data.batches import BatchSampler
from gliclass_spark.training.data.labelled_text import LabelledSet

Matrix = NDArray[np.float64]

# As people ask: 2 to 50 labels of one set, or of one source of it.
_QUESTIONS = SamplingConfig(
    texts=16, max_labels=50, min_labels=2, negative_share=0, same_source_share=0.5, size_power=0
)
_SLOPES = (0.05, 20.0)


@dataclass(frozen=True)
class Question:
    """Logits and truth, (texts, labels) each: truth is 1 where the label holds, else 0."""

    logits: Matrix
    truth: Matrix


def draw_questions(engine: Engine, sets: Sequence[LabelledSet], count: int, seed: int) -> list[Question]:
    """Return this many questions about texts of the sets, with the engine's logits."""
    sampler = BatchSampler(sets, _QUESTIONS, size=count, seed=seed)
    questions = []
    for position in range(count):
        batch = sampler[position]
        label_set = LabelSet(labels=tuple(Label.model_construct(name=name) for name in batch.labels))
        logits = engine.logits(batch.texts, label_set)
        scored = ~np.isnan(logits).any(axis=1)
        questions.append(Question(logits[scored].astype(np.float64), batch.targets[scored].astype(np.float64)))
    return questions


def fit(questions: Sequence[Question]) -> tuple[float, float]:
    """Return slope and offset of the logits.

    The slope minimizes the log loss of the softmax over each question's labels (temperature scaling, arXiv 1706.04599);
    a text with several labels is as much of one as of the other. With the offset, precision and recall of the labels
    whose sigmoid reaches 0.5 are equal. By log loss, too, the offset would leave most texts without any label: where
    right labels are few and hard to tell, no score near 1 is honest.
    """

    def loss(slope: float) -> float:
        return sum(_softmax_loss(slope * question.logits, question.truth) for question in questions)

    slope = float(minimize_scalar(loss, bounds=_SLOPES, method="bounded").x)
    logits = np.concatenate([question.logits.ravel() for question in questions])
    true_count = int(sum(question.truth.sum() for question in questions))
    # As many pairs of text and label reach the threshold as are true.
    cut = np.sort(logits)[::-1][true_count - 1 : true_count + 1].mean()
    return slope, float(-slope * cut)


def _softmax_loss(logits: Matrix, truth: Matrix) -> float:
    """Mean over the texts, in nats."""
    share = truth / truth.sum(axis=1, keepdims=True)
    return float((share * (logsumexp(logits, axis=1, keepdims=True) - logits)).sum() / len(logits))


@torch.no_grad()
def rescale(model: LabelCachedModel, slope: float, offset: float) -> None:
    """Change the scorer so that a logit x becomes slope * x + offset."""
    model.logit_scale.mul_(slope)
    model.logit_offset.mul_(slope).add_(offset)
