"""Packed BERT: query, key and value in one product; on a CPU, weights laid out for oneDNN and fused operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_spark.model.encoders.bert import Bert
from gliclass_spark.model.encoders.bert_weights import BertWeights, is_plain_bert

# The operators that torch's own compiler emits for linear layers on x86 processors.
_ONEDNN = torch.ops.mkldnn


def packed_bert(encoder: Any) -> Bert | None:
    """Return a faster copy of a BERT, or None if its own forward pass must be used.

    It is None for other encoders, and for a BertModel whose device or precision oneDNN does not support. In float32
    the states are those of the encoder up to rounding.
    """
    has_no_forward = isinstance(encoder, BertWeights)
    if not has_no_forward and not _is_transformers_bert(encoder):
        return None
    packs = encoder.device.type == "cpu" and _onednn_supports(encoder.dtype)
    if not packs and not has_no_forward:
        return None
    with torch.no_grad():
        return Bert(encoder, _PackedLinear if packs else _ConcatenatedLinear)


def _is_transformers_bert(encoder: Any) -> bool:
    from transformers import BertModel  # already imported if the encoder is a model of transformers

    return type(encoder) is BertModel and is_plain_bert(encoder.config)


class _ConcatenatedLinear:
    """Linear layers with the same input as one matrix product, on any device."""

    def __init__(self, *linears: nn.Linear) -> None:
        self._weight = torch.cat([linear.weight for linear in linears])
        self._bias = torch.cat([linear.bias for linear in linears])

    def __call__(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self._weight, self._bias)

    def gelu(self, inputs: Tensor) -> Tensor:
        return functional.gelu(self(inputs))

    def add(self, inputs: Tensor, residual: Tensor) -> Tensor:
        return self(inputs) + residual


class _PackedLinear:
    """Linear layers with the same input as one oneDNN product, (tokens, inputs) -> (tokens, outputs)."""

    def __init__(self, *linears: nn.Linear) -> None:
        self._weight = _ONEDNN._reorder_linear_weight(torch.cat([linear.weight for linear in linears]), None)
        self._bias = torch.cat([linear.bias for linear in linears])

    def __call__(self, inputs: Tensor) -> Tensor:
        return _tensor(_ONEDNN._linear_pointwise(inputs, self._weight, self._bias, "none", [], ""))

    def gelu(self, inputs: Tensor) -> Tensor:
        # "none": no approximation.
        return _tensor(_ONEDNN._linear_pointwise(inputs, self._weight, self._bias, "gelu", [], "none"))

    def add(self, inputs: Tensor, residual: Tensor) -> Tensor:
        return _tensor(_ONEDNN._linear_pointwise.binary(inputs, residual, self._weight, self._bias, "add"))


def _onednn_supports(dtype: torch.dtype) -> bool:
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not available or torch.cpu.get_capabilities().get("architecture") != "x86_64":
        return False
    operators = ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported")
    # They are not a public interface: with a version of torch without them, BERT runs unpacked.
    if not all(hasattr(_ONEDNN, name) for name in operators):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(_ONEDNN._is_mkldnn_bf16_supported()))


def _tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor)  # noqa: S101
    return value
