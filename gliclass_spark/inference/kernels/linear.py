"""Linear layers of the kernels: several of them in one product; on x86 processors, weights laid out for oneDNN.

Every class here is a `LinearFactory` that makes a `Linear` (see model.encoders.bert): called with nn.Linear layers that
have the same input, it returns one layer that concatenates their outputs. Either all of them have a bias, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# The operators that torch's own compiler emits for linear layers on x86 processors.
_ONEDNN = torch.ops.mkldnn


class ConcatenatedLinear:
    """Linear layers with the same input as one matrix product, on any device."""

    def __init__(self, *linears: nn.Linear) -> None:
        self._weight = torch.cat([linear.weight for linear in linears])
        self._bias = concatenated_bias(linears)

    def __call__(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self._weight, self._bias)

    def gelu(self, inputs: Tensor) -> Tensor:
        return functional.gelu(self(inputs))

    def add(self, inputs: Tensor, residual: Tensor) -> Tensor:
        return self(inputs) + residual


class PackedLinear:
    """Linear layers with the same input as one oneDNN product, (tokens, inputs) -> (tokens, outputs)."""

    def __init__(self, *linears: nn.Linear) -> None:
        self._weight = _ONEDNN._reorder_linear_weight(torch.cat([linear.weight for linear in linears]), None)
        self._bias = concatenated_bias(linears)

    def __call__(self, inputs: Tensor) -> Tensor:
        return _tensor(_ONEDNN._linear_pointwise(inputs, self._weight, self._bias, "none", [], ""))

    def gelu(self, inputs: Tensor) -> Tensor:
        # "none": no approximation.
        return _tensor(_ONEDNN._linear_pointwise(inputs, self._weight, self._bias, "gelu", [], "none"))

    def add(self, inputs: Tensor, residual: Tensor) -> Tensor:
        return _tensor(_ONEDNN._linear_pointwise.binary(inputs, residual, self._weight, self._bias, "add"))


def onednn_packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether `PackedLinear` can be used on this device, with weights of this precision."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device.type != "cpu" or not available or torch.cpu.get_capabilities().get("architecture") != "x86_64":
        return False
    operators = ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported")
    # They are not a public interface: with a version of torch without them, encoders run unpacked.
    if not all(hasattr(_ONEDNN, name) for name in operators):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(_ONEDNN._is_mkldnn_bf16_supported()))


def concatenated_bias(linears: Sequence[nn.Linear]) -> Tensor | None:
    """Return the biases of all layers in one vector; None if they have none."""
    biases: list[Tensor | None] = [linear.bias for linear in linears]
    present = [bias for bias in biases if bias is not None]
    return torch.cat(present) if present else None


def _tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor)  # noqa: S101
    return value
