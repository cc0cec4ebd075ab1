"""Rewards of a text's actions where its labels are known."""

from __future__ import annotations

import torch
from torch import Tensor

from gliclass_spark.config.retraining import RewardWeights


def text_rewards(
    actions: Tensor, targets: Tensor, part_weights: RewardWeights, weights: Tensor | None = None
) -> Tensor:
    """Return the reward of each text, (texts,) in [0, 1]: the weighted mean of its parts (arXiv 2508.07662, PPO).

    actions: (texts, labels), 1 or 0. targets: (texts, labels), 1 or 0, -1 where unknown; these count neither as hits
    nor as misses. weights: (texts, labels), how much each target counts; None: all alike. A part whose denominator is 0
    is 1: there was nothing to find, and no label was given.
    """
    known = (targets >= 0).float() if weights is None else (targets >= 0) * weights.float()
    positive, true = known * (actions > 0), known * (targets > 0)
    hits = (positive * (targets > 0)).sum(dim=1)
    right = (known * ((actions > 0) == (targets > 0))).sum(dim=1)
    parts = {
        "f1": _ratio(2 * hits, positive.sum(dim=1) + true.sum(dim=1)),
        "recall": _ratio(hits, true.sum(dim=1)),
        "precision": _ratio(hits, positive.sum(dim=1)),
        "accuracy": _ratio(right, known.sum(dim=1)),
    }
    shares = part_weights.model_dump()
    total = sum(shares.values())
    return torch.stack([parts[name] * (shares[name] / total) for name in parts]).sum(dim=0)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    safe = torch.where(denominator > 0, denominator, torch.ones_like(denominator))
    return torch.where(denominator > 0, numerator / safe, torch.ones_like(numerator))
