"""Label vectors: pooled from the states of an input that holds the labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gliclass_spark.model.configuration import PublishedConfig


@dataclass(frozen=True)
class LabelVectors:
    """One vector for each label of each text.

    vectors: (batch, labels, hidden), zero where there is no label.
    present: (batch, labels), false behind the last label of a row that has fewer than others.
    """

    vectors: Tensor
    present: Tensor


def pool_labels(
    config: PublishedConfig, states: Tensor, mask: Tensor, input_ids: Tensor, label_count: int | None = None
) -> LabelVectors:
    """Pool the tokens of each label.

    states: (batch, tokens, hidden). mask: (batch, tokens), of the dtype of states. input_ids: (batch, tokens).
    label_count: labels of the row that has the most; None reads it from the device.
    """
    is_class = input_ids == config.class_token_index
    rank = is_class.cumsum(dim=1)  # the label that a token belongs to: 1, 2, ...; 0 before the first
    counts = rank[:, -1:]
    most = int(counts.max()) if label_count is None else label_count
    numbers = torch.arange(1, most + 1, device=states.device)
    present = numbers <= counts
    if config.class_token_pooling == "first":
        columns = torch.arange(input_ids.shape[1], device=states.device)
        # Every other token writes to a last column, which is dropped: to find the label tokens would wait for a GPU.
        places = (rank - 1).masked_fill(~is_class, most)
        positions = rank.new_zeros(len(rank), most + 1).scatter_(
            1, places, (columns if config.embed_class_token else columns + 1).expand_as(places)
        )[:, :most]
        vectors = states.gather(1, positions.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
        return LabelVectors(vectors * present.unsqueeze(-1), present)
    span = mask
    if config.extract_text_features:
        span = span * ~is_from_separator(input_ids, config.text_token_index)
    # Without `extract_text_features` the last label's span runs through separator and text to the end of the input:
    # the published weights were trained that way.
    if not config.embed_class_token:
        span = span * ~is_class
    member = (rank.unsqueeze(1) == numbers[:, None]) * span.unsqueeze(1)
    return LabelVectors(torch.bmm(member, states) / member.sum(dim=2, keepdim=True).clamp(min=1), present)


def is_from_separator(input_ids: Tensor, text_token_index: int) -> Tensor:
    """Return True from the text's separator on, (batch, tokens). Every prompt holds one."""
    return (input_ids == text_token_index).cumsum(dim=1) > 0
