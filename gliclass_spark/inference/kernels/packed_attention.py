"""Choice of the attention over packed rows: torch's own, or for DeBERTa a Triton kernel, on GPUs that have them."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from gliclass_spark.model.encoders.varlen import VarlenAttention

# Of torch's FlashAttention, and of products of bfloat16: NVIDIA's Ampere and later.
_CAPABILITY = (8, 0)
_DTYPES = (torch.bfloat16, torch.float16)
# All others stay allowed: the choice is the process's, and another thread may run an attention that has a mask.
_WITHOUT_CUDNN = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class KernelError(RuntimeError):
    """A kernel can't be built on this machine; says why in one line."""


class PackedDisentangledAttention(Protocol):
    """DeBERTa's attention within rows of any length."""

    def __call__(
        self,
        projected: Tensor,
        boundaries: Tensor,
        max_tokens: int,
        heads: int,
        scale: float,
        c2p: Tensor | None,
        p2c: Tensor | None,
        indices: Tensor,
    ) -> Tensor:
        """Return the attended values, (tokens, hidden).

        projected: queries, keys and values in one, (tokens, 3 * hidden), contiguous.
        boundaries: where rows begin and end, (rows + 1,) int32.
        max_tokens: tokens of the longest row, or more.
        scale: of the products of queries and keys.
        c2p, p2c: products of the queries, and of the keys, with embeddings of distances, times the scale,
            (heads, tokens, embeddings) each, contiguous; None without this term.
        indices: the embedding of each distance n - 1, ..., 1 - n for some n of at least `max_tokens`, int32.
        """


def packed_attention(device: torch.device, dtype: torch.dtype) -> VarlenAttention | None:
    """Return torch's attention over packed rows, or None for a device or precision that it does not support."""
    if not _has_kernels(device, dtype):
        return None
    from torch.nn.attention.varlen import varlen_attn  # only here: it registers operators

    def attention(*rows: Any, **window: Any) -> Any:
        # One kernel for rows of any length. By default torch prefers cuDNN's, which prepares a plan for each new shape.
        with sdpa_kernel(_WITHOUT_CUDNN):
            return varlen_attn(*rows, **window)

    return cast("VarlenAttention", attention)


def packed_disentangled_attention(device: torch.device, dtype: torch.dtype) -> PackedDisentangledAttention | None:
    """Return DeBERTa's attention over packed rows, or None for a device or precision that it does not support.

    It raises KernelError where Triton is missing or can't build it.
    """
    if not _has_kernels(device, dtype):
        return None

    def attention(*rows: Any) -> Any:
        try:  # only here: processors need no Triton, and torch does not bring it for every platform
            from gliclass_spark.inference.kernels.disentangled_kernel import attend_disentangled
        except ImportError as error:
            raise KernelError(f"Triton can't be imported: {error}") from error
        return attend_disentangled(*rows)

    return cast("PackedDisentangledAttention", attention)


def _has_kernels(device: torch.device, dtype: torch.dtype) -> bool:
    if device.type != "cuda" or dtype not in _DTYPES:
        return False
    return torch.cuda.get_device_capability(device) >= _CAPABILITY
