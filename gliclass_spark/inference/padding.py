"""Padding: inputs of different lengths in one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def pad(inputs: Sequence[Sequence[int]], tokens: int, pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask on the device, (inputs, tokens) each, padded on the right."""
    input_ids = np.full((len(inputs), tokens), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(inputs), tokens), dtype=np.int64)
    for row, ids in enumerate(inputs):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    return _on_device(input_ids, device), _on_device(attention_mask, device)


def _on_device(array: NDArray[np.int64], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    # From pinned memory, the copy overlaps with the launch of the model's first kernels.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
