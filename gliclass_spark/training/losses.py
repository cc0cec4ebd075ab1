"""Training losses. Targets are 1 or 0, and -1 for padding and unknown labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gliclass_spark.config.training import TrainingConfig


def classification_loss(logits: Tensor, targets: Tensor, weights: Tensor | None, config: TrainingConfig) -> Tensor:
    """Return the loss of supervised training, a scalar. logits, targets, weights: (texts, labels).

    It is the softmax loss plus `focal_weight` times the focal loss. The focal loss is a mean over labels and the
    softmax loss a sum, so the number of labels makes their gradients comparable.
    """
    focal = focal_loss(
        logits,
        targets,
        focal_alpha=config.focal_alpha,
        focal_gamma=config.focal_gamma,
        label_smoothing=config.label_smoothing,
        weights=weights,
    )
    return config.focal_weight * focal * logits.shape[1] + softmax_loss(logits, targets, weights)


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    focal_alpha: float | None,
    focal_gamma: float,
    label_smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the focal loss (arXiv 1708.02002, eq. 5), averaged over the labels with a target of 0 or 1.

    FL = -alpha_t (1 - p_t)^gamma log(p_t), alpha_t = alpha for a true label and 1 - alpha for a false one; without
    alpha both weigh alike. gamma > 0 lowers the weight of labels that are scored well. Smoothed by s, a target y is
    y (1 - s) + s / 2 (arXiv 1512.00567, section 7, for two classes). `weights`, of the shape of logits, multiply the
    loss of each label; the denominator of the average stays the number of labels.
    """
    present = targets >= 0
    target = targets.clamp(min=0) * (1 - label_smoothing) + label_smoothing / 2
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p_t = torch.exp(-cross_entropy)
    loss = (1 - p_t) ** focal_gamma * cross_entropy
    if focal_alpha is not None:
        loss = loss * (focal_alpha * target + (1 - focal_alpha) * (1 - target))
    if weights is not None:
        loss = loss * weights
    return (loss * present).sum() / present.sum().clamp(min=1)


def softmax_loss(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return -log of the softmax probability of a text's true labels together, averaged over texts that have any.

    `weights`, of the shape of logits, multiply the loss of a text by the mean weight of its true labels; the
    denominator of the average stays the number of texts. A label of weight 0 is left out, as an unknown one.
    """
    present = targets >= 0
    if weights is not None:
        present = present & (weights > 0)
    true = (targets > 0) & present
    log_total = torch.logsumexp(logits.masked_fill(~present, float("-inf")), dim=1)
    has_true = true.any(dim=1)
    log_true = torch.logsumexp(logits[has_true].masked_fill(~true[has_true], float("-inf")), dim=1)
    loss = log_total[has_true] - log_true
    if weights is not None:
        loss = loss * ((weights * true).sum(dim=1) / true.sum(dim=1).clamp(min=1))[has_true]
    return loss.sum() / has_true.sum().clamp(min=1)
