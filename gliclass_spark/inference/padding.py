"""Padding: inputs of different lengths in one tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from gliclass_spark.inference.batching import MicroBatch, micro_batches


def pad(inputs: Sequence[Sequence[int]], tokens: int, pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask on the device, (inputs, tokens) each, padded on the right."""
    input_ids = np.full((len(inputs), tokens), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(inputs), tokens), dtype=np.int64)
    for row, ids in enumerate(inputs):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    return to_device(torch.from_numpy(input_ids), device), to_device(torch.from_numpy(attention_mask), device)


def padded_batches(
    inputs: Sequence[Sequence[int]], max_batch_tokens: int, pad_id: int, device: torch.device
) -> Iterator[tuple[MicroBatch, Tensor, Tensor, int]]:
    """Yield batches of like length with their token ids and mask, see `pad`, and the sum of the mask."""
    for batch in micro_batches([len(ids) for ids in inputs], max_batch_tokens):
        rows = [inputs[position] for position in batch.positions]
        input_ids, attention_mask = pad(rows, batch.tokens, pad_id, device)
        yield batch, input_ids, attention_mask, sum(map(len, rows))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a processor's tensor on the device, without waiting for a GPU: it is copied from pinned memory."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
