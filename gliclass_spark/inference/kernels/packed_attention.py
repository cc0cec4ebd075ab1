"""Choice of the attention over packed rows: torch's own, on GPUs that have it."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from gliclass_spark.model.encoders.varlen import VarlenAttention

# Of torch's FlashAttention: NVIDIA's Ampere and later.
_CAPABILITY = (8, 0)
_DTYPES = (torch.bfloat16, torch.float16)
# All others stay allowed: the choice is the process's, and another thread may run an attention that has a mask.
_WITHOUT_CUDNN = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def packed_attention(device: torch.device, dtype: torch.dtype) -> VarlenAttention | None:
    """Return torch's attention over packed rows, or None for a device or precision that it does not support."""
    if device.type != "cuda" or dtype not in _DTYPES or torch.cuda.get_device_capability(device) < _CAPABILITY:
        return None
    from torch.nn.attention.varlen import varlen_attn  # only here: it registers operators

    def attention(*rows: Any, **window: Any) -> Any:
        # One kernel for rows of any length. By default torch prefers cuDNN's, which prepares a plan for each new shape.
        with sdpa_kernel(_WITHOUT_CUDNN):
            return varlen_attn(*rows, **window)

    return cast("VarlenAttention", attention)
