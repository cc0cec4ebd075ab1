"""Scorers: logits from a text's vector and the label vectors.

Each scorer takes the text (batch, hidden) - 'cross-attn' takes its tokens (batch, tokens, hidden) -, the labels
(batch, labels, hidden), the text's mask (batch, tokens) and the labels' mask (batch, labels), and returns logits
(batch, labels); those of masked labels are undefined. Module names are those of the published checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# The published mlp and hopfield scorers have this width whatever scorer_mlp_hidden_size says.
_FIXED_MLP_WIDTH = 256
_HOPFIELD_BETA = 4.0


def _mlp(inputs: int, width: int, activation: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width),
        activation(),
        nn.Linear(width, width // 2),
        activation(),
        nn.Linear(width // 2, 1),
    )


def _repeat(text: Tensor, labels: Tensor) -> Tensor:
    """Return the text's vector repeated for every label, (batch, labels, hidden)."""
    return text.unsqueeze(1).expand(-1, labels.shape[1], -1)


class DotScorer(nn.Module):
    """The dot product of text and label."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_hidden_size: int, attn_dropout: float) -> None:
        super().__init__()

    def forward(self, text: Tensor, labels: Tensor, text_mask: Tensor, label_mask: Tensor) -> Tensor:
        return torch.einsum("bd,bcd->bc", text, labels)


class WeightedDotScorer(nn.Module):
    """An MLP over two projections of text and label: one pair concatenated, one multiplied."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_hidden_size: int, attn_dropout: float) -> None:
        super().__init__()
        self.proj_text = nn.Linear(hidden_size, 2 * hidden_size)
        self.proj_label = nn.Linear(hidden_size, 2 * hidden_size)
        self.out_mlp = nn.Sequential(
            nn.Linear(3 * hidden_size, 4 * hidden_size),
            nn.Dropout(0.1),
            nn.ReLU(),
            nn.Linear(4 * hidden_size, 1),
        )

    def forward(self, text: Tensor, labels: Tensor, text_mask: Tensor, label_mask: Tensor) -> Tensor:
        text_features, text_factors = _repeat(self.proj_text(text), labels).chunk(2, dim=-1)
        label_features, label_factors = self.proj_label(labels).chunk(2, dim=-1)
        features = torch.cat([text_features, label_features, text_factors * label_factors], dim=-1)
        logits: Tensor = self.out_mlp(features).squeeze(-1)
        return logits


class MLPScorer(nn.Module):
    """An MLP over the concatenation of text and label."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_hidden_size: int, attn_dropout: float) -> None:
        super().__init__()
        self.mlp = _mlp(2 * hidden_size, _FIXED_MLP_WIDTH, nn.ReLU)

    def forward(self, text: Tensor, labels: Tensor, text_mask: Tensor, label_mask: Tensor) -> Tensor:
        logits: Tensor = self.mlp(torch.cat([_repeat(text, labels), labels], dim=-1)).squeeze(-1)
        return logits


class HopfieldScorer(nn.Module):
    """Labels share one retrieval of the text (a softmax over the labels), then an MLP."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_hidden_size: int, attn_dropout: float) -> None:
        super().__init__()
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.mlp = _mlp(hidden_size, _FIXED_MLP_WIDTH, nn.ReLU)

    def forward(self, text: Tensor, labels: Tensor, text_mask: Tensor, label_mask: Tensor) -> Tensor:
        similarity = torch.einsum("bcd,bd->bc", self.q_proj(labels), self.k_proj(text))
        share = torch.softmax((_HOPFIELD_BETA * similarity).masked_fill(~label_mask, float("-inf")), dim=1)
        retrieved = share.unsqueeze(-1) * self.v_proj(text).unsqueeze(1)
        logits: Tensor = self.mlp(labels + retrieved).squeeze(-1)
        return logits


class CrossAttentionScorer(nn.Module):
    """Each label attends to the text's tokens; an MLP takes the result and the label, concatenated."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_hidden_size: int, attn_dropout: float) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size {hidden_size} is not a multiple of scorer_num_heads {num_heads}")
        self.num_heads = num_heads
        self.attn_dropout = attn_dropout
        self.q_norm = nn.LayerNorm(hidden_size)
        self.kv_norm = nn.LayerNorm(hidden_size)
        self.q = nn.Linear(hidden_size, hidden_size)
        self.k = nn.Linear(hidden_size, hidden_size)
        self.v = nn.Linear(hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.score_mlp = _mlp(2 * hidden_size, mlp_hidden_size, nn.GELU)

    def forward(self, text: Tensor, labels: Tensor, text_mask: Tensor, label_mask: Tensor) -> Tensor:
        attended = functional.scaled_dot_product_attention(
            self._heads(self.q(self.q_norm(labels))),
            self._heads(self.k(self.kv_norm(text))),
            self._heads(self.v(text)),  # values stay unnormalized, as the weights were trained
            attn_mask=text_mask.bool()[:, None, None, :],
            dropout_p=self.attn_dropout if self.training else 0.0,
        )
        context = self.norm(self.out(attended.transpose(1, 2).flatten(2)))
        logits: Tensor = self.score_mlp(torch.cat([context, labels], dim=-1)).squeeze(-1)
        return logits

    def _heads(self, states: Tensor) -> Tensor:
        batch, tokens, _ = states.shape
        return states.view(batch, tokens, self.num_heads, -1).transpose(1, 2)


SCORERS: dict[str, type[nn.Module]] = {
    "simple": DotScorer,
    "weighted-dot": WeightedDotScorer,
    "mlp": MLPScorer,
    "hopfield": HopfieldScorer,
    "cross-attn": CrossAttentionScorer,
}
