"""Projections, LSTM and normalization of features. Parameter names are those of the published checkpoints."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

# Keeps a zero vector finite when features are normalized; the value that the weights were trained with.
_NORM_EPSILON = 1e-8


class Projector(nn.Module):
    """Two linear layers with an activation and dropout between them."""

    def __init__(self, inputs: int, width: int, outputs: int, activation: str, dropout: float) -> None:
        from transformers.activations import ACT2FN  # takes seconds to import, and not every model has a projector

        super().__init__()
        self.linear_1 = nn.Linear(inputs, width)
        self.act = ACT2FN[activation]
        self.dropout = nn.Dropout(dropout)
        self.linear_2 = nn.Linear(width, outputs)

    def forward(self, states: Tensor) -> Tensor:
        """Project (..., inputs) to (..., outputs)."""
        projected: Tensor = self.linear_2(self.dropout(self.act(self.linear_1(states))))
        return projected


class TextLstm(nn.Module):
    """A bidirectional LSTM over a text's tokens, without the padding."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(size, size // 2, bidirectional=True, batch_first=True)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape, zeros where the mask (batch, tokens) is zero.

        No row may be all padding.
        """
        lengths = mask.sum(dim=1).long().cpu()
        packed = pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False)
        output: Tensor = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=states.shape[1])[0]
        return output


def to_unit_length(features: Tensor) -> Tensor:
    """Return features (..., hidden) in the same directions, at length 1."""
    length: Tensor = features.norm(p=2, dim=-1, keepdim=True)
    return features / (length + _NORM_EPSILON)
