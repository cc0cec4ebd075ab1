"""Calibrator: a learned factor and bias for each logit, behind the scorer of some published checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Features of the logits themselves, see `_statistics`.
_STATISTICS = 6


class Calibrator(nn.Module):
    """Multiplies each logit by a factor below `beta_max`, and adds a bias with `use_bias`.

    Parameter names are those of the published checkpoints.
    """

    def __init__(self, size: int, width: int, beta_max: float, dropout: float, use_bias: bool) -> None:
        super().__init__()
        self._beta_max = beta_max
        self._use_bias = use_bias
        self.text_norm = nn.LayerNorm(size)
        self.label_norm = nn.LayerNorm(size)
        self.mlp = nn.Sequential(
            nn.Linear(4 * size + _STATISTICS, width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, 2 if use_bias else 1),
        )

    def forward(self, text: Tensor, labels: Tensor, logits: Tensor, present: Tensor) -> Tensor:
        """Return logits (batch, labels), from those of the scorer and its inputs.

        text: (batch, hidden). labels: (batch, labels, hidden). present: (batch, labels), false where a row has no
        label; the logits there are undefined.
        """
        text = self.text_norm(text).unsqueeze(1).expand_as(labels)
        labels = self.label_norm(labels)
        pair = [text, labels, text * labels, (text - labels).abs(), _statistics(logits, present)]
        output = self.mlp(torch.cat(pair, dim=-1))
        scaled = self._beta_max * torch.sigmoid(output[..., 0]) * logits
        return scaled + output[..., 1] if self._use_bias else scaled


def _statistics(logits: Tensor, present: Tensor) -> Tensor:
    """Return features of each logit alone and among those of its text, (batch, labels, 6)."""
    count = present.sum(dim=1, keepdim=True)
    highest = logits.masked_fill(~present, float("-inf")).amax(dim=1, keepdim=True)
    mean = (logits * present).sum(dim=1, keepdim=True) / count
    # Binary entropy, in nats.
    probability = torch.sigmoid(logits)
    entropy = -(probability * functional.logsigmoid(logits) + (1 - probability) * functional.logsigmoid(-logits))
    mean_entropy = (entropy * present).sum(dim=1, keepdim=True) / count
    per_text = [part.expand_as(logits) for part in (mean_entropy, count.to(logits.dtype).log())]
    return torch.stack([logits, logits.abs(), logits - highest, logits - mean, *per_text], dim=-1)
