"""Where the labels stand in an input, and their vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gliclass_spark.model.configuration import PublishedConfig


@dataclass(frozen=True)
class LabelVectors:
    """One vector for each label of each text, (batch, labels, hidden).

    present: (batch, labels), false behind the last label of a row that has fewer than others. Their vectors are zero.
    """

    vectors: Tensor
    present: Tensor


def label_vectors(config: PublishedConfig, states: Tensor, mask: Tensor, input_ids: Tensor) -> LabelVectors:
    """From the states (batch, tokens, hidden) of inputs that name labels; the mask (batch, tokens) is of their type."""
    is_class = input_ids == config.class_token_index
    rank = is_class.cumsum(dim=1)  # which label a token stands in: 1, 2, ...; 0 before the first
    counts = rank[:, -1:]
    numbers = torch.arange(1, int(counts.max()) + 1, device=states.device)
    present = numbers <= counts
    if config.class_token_pooling == "first":
        rows, columns = is_class.nonzero(as_tuple=True)
        positions = columns.new_zeros(present.shape)
        positions[rows, rank[rows, columns] - 1] = columns if config.embed_class_token else columns + 1
        found = states.gather(1, positions.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
        return LabelVectors(found * present.unsqueeze(-1), present)
    span = mask
    if config.extract_text_features:
        span = span * ~from_text_on(input_ids, config.text_token_index)
    # Without it the last label's span runs through the separator and the text to the end of the
    # input: so the published weights were trained, and so they must be asked.
    if not config.embed_class_token:
        span = span * ~is_class
    member = (rank.unsqueeze(1) == numbers[:, None]) * span.unsqueeze(1)
    return LabelVectors(torch.bmm(member, states) / member.sum(dim=2, keepdim=True).clamp(min=1), present)


def from_text_on(input_ids: Tensor, text_token_index: int) -> Tensor:
    """True from the text's separator on, (batch, tokens). Every prompt holds one."""
    return (input_ids == text_token_index).cumsum(dim=1) > 0
