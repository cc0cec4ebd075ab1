"""What a text's labels are worth where it is known which of them hold."""

from __future__ import annotations

import torch
from torch import Tensor

from gliclass_spark.config.retraining import RewardWeights


def text_rewards(actions: Tensor, targets: Tensor, weights: RewardWeights) -> Tensor:
    """(texts,) in [0, 1]: the weighted mean of the parts (arXiv 2508.07662, section on PPO).

    actions (texts, labels): 1 where the label is given. targets (texts, labels): 1 or 0, -1 where nobody
    knows or no label is: such a one counts neither for nor against. A part whose denominator is 0 is 1:
    nothing was to be found, and nothing was given.
    """
    known = targets >= 0
    given = (actions > 0) & known
    true = (targets > 0) & known
    hits = (given & true).sum(dim=1).float()
    parts = {
        "f1": _share(2 * hits, given.sum(dim=1) + true.sum(dim=1)),
        "recall": _share(hits, true.sum(dim=1)),
        "precision": _share(hits, given.sum(dim=1)),
        "accuracy": _share(((given == true) & known).sum(dim=1).float(), known.sum(dim=1)),
    }
    each = weights.model_dump()
    total = sum(each.values())
    return torch.stack([parts[name] * (each[name] / total) for name in parts]).sum(dim=0)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole.clamp(min=1), torch.ones_like(part))
