"""Soft targets for trainings: a distribution over a batch's labels for each text, beside its true labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from gliclass_spark.config.training import TrainingConfig
from gliclass_spark.inference.device import native_bfloat16
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.training.data.batches import TrainingBatch
from gliclass_spark.training.data.labelled_text import letters
from gliclass_spark.training.forward_pass import trainable_model
from gliclass_spark.training.losses import focal_loss, softmax_loss
from gliclass_spark.training.supervised import Loss

# (texts, labels) float32 that sum to 1 for each text, or None for a batch that has none.
Distributions = Callable[[TrainingBatch], NDArray[np.float32] | None]

# Labels of the English sets that a product may be trained on, from low to high.
SCALES = (
    ("very negative", "negative", "neutral", "positive", "very positive"),
    ("negative sentiment", "neutral sentiment", "positive sentiment"),
    ("unacceptable for the user", "bad for the user", "neutral for the user", "good for the user"),
    ("very calm", "calm", "excited", "very excited"),
    ("informational", "low severity", "medium severity", "high severity", "critical severity"),
    ("elementary reading level", "intermediate reading level", "advanced reading level"),
    ("neither hateful nor offensive", "offensive language", "hate speech"),
    ("no", "maybe", "yes"),
)


class SoftTargetBatches(Dataset[TrainingBatch]):
    """The same batches, with the distributions as their weights: for `soft_target_loss` alone."""

    def __init__(self, batches: Dataset[TrainingBatch], size: int, distributions: Distributions) -> None:
        self._batches = batches
        self._size = size
        self._distributions = distributions

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, position: int) -> TrainingBatch:
        batch = self._batches[position]
        return replace(batch, weights=self._distributions(batch))


def soft_target_loss(config: TrainingConfig, share: float) -> Loss:
    """Return a loss: a `share` of its softmax loss is the cross-entropy with the distributions.

    Batches without distributions, and the focal loss, are those of `classification_loss`.
    """

    def loss(logits: Tensor, targets: Tensor, distributions: Tensor | None) -> Tensor:
        softmax = softmax_loss(logits, targets)
        if distributions is not None:
            cross_entropy = functional.cross_entropy(logits, distributions)
            softmax = share * cross_entropy + (1 - share) * softmax
        focal = focal_loss(logits, targets, focal_alpha=None, focal_gamma=config.focal_gamma)
        return config.focal_weight * focal * logits.shape[1] + softmax

    return loss


def by_distance(batch: TrainingBatch) -> NDArray[np.float32] | None:
    """Return the softmax of minus twice the distance to the true label on its scale.

    These are the soft labels of SORD (Diaz and Marathe, CVPR 2019, eq. 1) for the absolute difference. A text whose
    true labels are not one label of a scale has its true labels alone; a batch of such texts has no distribution.
    """
    scale = _scale(batch.labels)
    true = batch.targets > 0
    on_scale = (true.sum(axis=1) == 1) & true[:, sorted(scale)].any(axis=1)
    if len(scale) < 2 or not true.any(axis=1).all() or not on_scale.any():
        return None
    exact = true / true.sum(axis=1, keepdims=True)
    ranks = np.array([scale.get(column, np.inf) for column in range(len(batch.labels))])
    true_ranks = np.where(on_scale, ranks[true.argmax(axis=1)], 0.0)
    soft = np.exp(-2 * np.abs(ranks[None, :] - true_ranks[:, None]))
    soft /= soft.sum(axis=1, keepdims=True)
    distributions: NDArray[np.float32] = np.where(on_scale[:, None], soft, exact).astype(np.float32)
    return distributions


def _scale(labels: Sequence[str]) -> dict[int, int]:
    """Return the columns of the labels that are on one scale, that of most labels, and their ranks on it."""
    ranks = [{letters(name): rank for rank, name in enumerate(scale)} for scale in SCALES]
    columns = [
        {column: of_scale[name] for column, name in enumerate(map(letters, labels)) if name in of_scale}
        for of_scale in ranks
    ]
    return max(columns, key=len)


def of_teacher(teacher: Checkpoint, max_text_tokens: int) -> Distributions:
    """Return a function to the softmax of a model's logits for a batch."""
    trainable = trainable_model(teacher.model.eval(), teacher.tokenizer, max_text_tokens)
    lowered = native_bfloat16(torch.device("cpu"))

    @torch.inference_mode()
    def distributions(batch: TrainingBatch) -> NDArray[np.float32]:
        with torch.autocast("cpu", torch.bfloat16, enabled=lowered):
            logits = trainable.logits(trainable.inputs(batch))
        return logits.float().softmax(dim=1).numpy()

    return distributions
