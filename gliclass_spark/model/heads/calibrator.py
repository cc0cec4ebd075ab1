"""How far to trust each logit: what a published checkpoint may have learned behind its scorer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# What it reads of the logits themselves, see `_statistics`.
_STATISTICS = 6


class Calibrator(nn.Module):
    """Gives each pair of text and label a factor below `beta_max`, and a bias if asked, for its logit.

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
        """Logits (batch, labels), for text (batch, hidden) and labels (batch, labels, hidden) as the scorer read them.

        present: (batch, labels), which of them the text is asked; the logits of all others mean nothing.
        """
        text = self.text_norm(text).unsqueeze(1).expand_as(labels)
        labels = self.label_norm(labels)
        pair = [text, labels, text * labels, (text - labels).abs(), _statistics(logits, present)]
        found = self.mlp(torch.cat(pair, dim=-1))
        trusted = self._beta_max * torch.sigmoid(found[..., 0]) * logits
        return trusted + found[..., 1] if self._use_bias else trusted


def _statistics(logits: Tensor, present: Tensor) -> Tensor:
    """Of each logit alone, and among those of its text, (batch, labels, 6)."""
    count = present.sum(dim=1, keepdim=True)
    highest = logits.masked_fill(~present, float("-inf")).amax(dim=1, keepdim=True)
    mean = (logits * present).sum(dim=1, keepdim=True) / count
    # The entropy of a yes or no, in nats.
    probability = torch.sigmoid(logits)
    entropy = -(probability * functional.logsigmoid(logits) + (1 - probability) * functional.logsigmoid(-logits))
    doubt = (entropy * present).sum(dim=1, keepdim=True) / count
    alike = [part.expand_as(logits) for part in (doubt, count.to(logits.dtype).log())]
    return torch.stack([logits, logits.abs(), logits - highest, logits - mean, *alike], dim=-1)
