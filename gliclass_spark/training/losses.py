"""What training minimises. Targets are 1 or 0 for a label, -1 for no label there (padding)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    focal_alpha: float,
    focal_gamma: float,
    label_smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Focal loss (Lin et al., arXiv 1708.02002, eq. 5), averaged over the labels that are there.

    `weights`, of the shape of logits, multiply each answer's loss; the average stays that over all answers.

    FL = -alpha_t (1 - p_t)^gamma log(p_t), alpha_t = alpha for a true label and 1 - alpha for a
    false one; a negative alpha weighs both alike. gamma > 0 turns the eye from the easy labels.
    Smoothed by s, a target y is y (1 - s) + s / 2 (Szegedy et al., arXiv 1512.00567, section 7, for
    two classes).
    """
    present = targets >= 0
    target = targets.clamp(min=0) * (1 - label_smoothing) + label_smoothing / 2
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p_t = torch.exp(-cross_entropy)
    loss = (1 - p_t) ** focal_gamma * cross_entropy
    if focal_alpha >= 0:
        loss = loss * (focal_alpha * target + (1 - focal_alpha) * (1 - target))
    if weights is not None:
        loss = loss * weights
    return (loss * present).sum() / present.sum().clamp(min=1)


def hardest(logits: Tensor, targets: Tensor, share: float) -> Tensor:
    """Weights (texts, labels) that leave, of each text's false labels, the `share` with the highest logits.

    At least one of them, where there is one (online hard example mining, arXiv 1604.03540); true labels all count.
    """
    false = targets == 0
    ranks = logits.detach().masked_fill(~false, float("-inf")).argsort(dim=1, descending=True).argsort(dim=1)
    kept = (share * false.sum(dim=1, keepdim=True)).ceil().clamp(min=1)
    return (~false | (ranks < kept)).to(logits.dtype)


def softmax_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Minus the log of the softmax share that a text's true labels have together; rows with none don't count."""
    present = targets >= 0
    true = targets > 0
    everything = torch.logsumexp(logits.masked_fill(~present, float("-inf")), dim=1)
    rows = true.any(dim=1)
    correct = torch.logsumexp(logits[rows].masked_fill(~true[rows], float("-inf")), dim=1)
    return (everything[rows] - correct).sum() / rows.sum().clamp(min=1)
