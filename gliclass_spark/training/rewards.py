"""Rewards of a text's actions where its labels are known."""

from __future__ import annotations

import torch
from torch import Tensor

from gliclass_spark.config.retraining import RewardWeights


def text_rewards(actions: Tensor, targets: Tensor, weights: RewardWeights) -> Tensor:
    """Return the reward of each text, (texts,) in [0, 1]: the weighted mean of its parts (arXiv 2508.07662, PPO).

    actions: (texts, labels), 1 or 0. targets: (texts, labels), 1 or 0, -1 where unknown; these count neither as hits
    nor as misses. A part whose denominator is 0 is 1: there was nothing to find, and no label was given.
    """
    known = targets >= 0
    positive = (actions > 0) & known
    true = (targets > 0) & known
    hits = (positive & true).sum(dim=1).float()
    parts = {
        "f1": _ratio(2 * hits, positive.sum(dim=1) + true.sum(dim=1)),
        "recall": _ratio(hits, true.sum(dim=1)),
        "precision": _ratio(hits, positive.sum(dim=1)),
        "accuracy": _ratio(((positive == true) & known).sum(dim=1).float(), known.sum(dim=1)),
    }
    part_weights = weights.model_dump()
    total = sum(part_weights.values())
    return torch.stack([parts[name] * (part_weights[name] / total) for name in parts]).sum(dim=0)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator.clamp(min=1), torch.ones_like(numerator))
