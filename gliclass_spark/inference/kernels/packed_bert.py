"""BERT with joined linear layers; on a processor they are laid out for oneDNN and fused with what follows them."""

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
    """A copy of the encoder with packed weights; None where this encoder, its precision or its device has to take
    its own way. In float32 the states are BertModel's but for rounding.
    """
    ours = isinstance(encoder, BertWeights)
    if not ours and not _is_transformers_bert(encoder):
        return None
    packs = encoder.device.type == "cpu" and _onednn_computes(encoder.dtype)
    if not packs and not ours:
        return None
    with torch.no_grad():
        return Bert(encoder, _Packed if packs else _Joined)


def _is_transformers_bert(encoder: Any) -> bool:
    from transformers import BertModel  # imported already, as the encoder is a model of transformers

    return type(encoder) is BertModel and is_plain_bert(encoder.config)


class _Joined:
    """A linear layer on any device: one product for layers that read the same."""

    def __init__(self, *linears: nn.Linear) -> None:
        self._weight = torch.cat([linear.weight for linear in linears])
        self._bias = torch.cat([linear.bias for linear in linears])

    def __call__(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self._weight, self._bias)

    def gelu(self, inputs: Tensor) -> Tensor:
        return functional.gelu(self(inputs))

    def added(self, inputs: Tensor, residual: Tensor) -> Tensor:
        return self(inputs) + residual


class _Packed:
    """A linear layer: (tokens, inputs) -> (tokens, outputs)."""

    def __init__(self, *linears: nn.Linear) -> None:
        self._weight = _ONEDNN._reorder_linear_weight(torch.cat([linear.weight for linear in linears]), None)
        self._bias = torch.cat([linear.bias for linear in linears])

    def __call__(self, inputs: Tensor) -> Tensor:
        return _tensor(_ONEDNN._linear_pointwise(inputs, self._weight, self._bias, "none", [], ""))

    def gelu(self, inputs: Tensor) -> Tensor:
        # "none": no approximation.
        return _tensor(_ONEDNN._linear_pointwise(inputs, self._weight, self._bias, "gelu", [], "none"))

    def added(self, inputs: Tensor, residual: Tensor) -> Tensor:
        return _tensor(_ONEDNN._linear_pointwise.binary(inputs, residual, self._weight, self._bias, "add"))


def _onednn_computes(dtype: torch.dtype) -> bool:
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not available or torch.cpu.get_capabilities().get("architecture") != "x86_64":
        return False
    needed = ("_linear_pointwise", "_reorder_linear_weight", "_is_mkldnn_bf16_supported")
    # They are no public interface: a version of torch without them takes transformers' way.
    if not all(hasattr(_ONEDNN, name) for name in needed):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(_ONEDNN._is_mkldnn_bf16_supported()))


def _tensor(found: Any) -> Tensor:
    assert isinstance(found, Tensor)  # noqa: S101
    return found
