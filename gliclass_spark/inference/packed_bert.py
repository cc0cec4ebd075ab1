"""BERT on a processor: the sums of transformers' BertModel, with weights laid out for oneDNN and fused steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertModel

# The operators that torch's own compiler emits for linear layers on x86 processors.
_ONEDNN = torch.ops.mkldnn


class PackedBert:
    """A BertModel's weights, copied and packed when it is made. Gives (batch, tokens, hidden) in their precision.

    In float32 the states are BertModel's but for rounding.
    """

    def __init__(self, bert: BertModel) -> None:
        embeddings = bert.embeddings
        self._heads = bert.config.num_attention_heads
        self._words = embeddings.word_embeddings.weight.detach()
        # Every token is of segment 0: its embedding is added to the positions' once, not to each batch.
        self._positions = (embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]).detach()
        self._norm = _Norm.of(embeddings.LayerNorm)
        self._layers = [_Layer.of(layer) for layer in bert.encoder.layer]

    @staticmethod
    def of(encoder: nn.Module) -> PackedBert | None:
        """The packed encoder; None where this encoder, its precision or its device has to take its own way."""
        if type(encoder) is not BertModel or encoder.config.hidden_act != "gelu" or encoder.config.is_decoder:
            return None
        if encoder.device.type != "cpu" or not _onednn_computes(encoder.dtype):
            return None
        with torch.no_grad():
            return PackedBert(encoder)

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        rows, tokens = input_ids.shape
        # Without padding there is nothing to mask, and attention is faster for it.
        mask = None if bool(attention_mask.all()) else attention_mask.bool()[:, None, None, :]
        embedded = functional.embedding(input_ids, self._words) + self._positions[:tokens]
        states = self._norm(embedded.flatten(0, 1))
        for layer in self._layers:
            query, key, value = layer.query_key_value(states).view(rows, tokens, 3, self._heads, -1).unbind(2)
            read = functional.scaled_dot_product_attention(
                query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask
            )
            read = read.transpose(1, 2).reshape(rows * tokens, -1)
            states = layer.attention_norm(layer.attention_out.added(read, states))
            states = layer.norm(layer.down.added(layer.up.gelu(states), states))
        return states.view(rows, tokens, -1)


@dataclass(frozen=True)
class _Packed:
    """A linear layer: (tokens, inputs) -> (tokens, outputs)."""

    weight: Tensor
    bias: Tensor

    @staticmethod
    def of(*linears: nn.Linear) -> _Packed:
        """Layers that read the same input, side by side."""
        weight = torch.cat([linear.weight for linear in linears])
        return _Packed(_ONEDNN._reorder_linear_weight(weight, None), torch.cat([linear.bias for linear in linears]))

    def __call__(self, inputs: Tensor) -> Tensor:
        return _tensor(_ONEDNN._linear_pointwise(inputs, self.weight, self.bias, "none", [], ""))

    def gelu(self, inputs: Tensor) -> Tensor:
        # "none": no approximation.
        return _tensor(_ONEDNN._linear_pointwise(inputs, self.weight, self.bias, "gelu", [], "none"))

    def added(self, inputs: Tensor, residual: Tensor) -> Tensor:
        return _tensor(_ONEDNN._linear_pointwise.binary(inputs, residual, self.weight, self.bias, "add"))


@dataclass(frozen=True)
class _Norm:
    weight: Tensor
    bias: Tensor
    epsilon: float

    @staticmethod
    def of(norm: nn.LayerNorm) -> _Norm:
        return _Norm(norm.weight.detach(), norm.bias.detach(), norm.eps)

    def __call__(self, states: Tensor) -> Tensor:
        return functional.layer_norm(states, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True)
class _Layer:
    query_key_value: _Packed
    attention_out: _Packed
    attention_norm: _Norm
    up: _Packed
    down: _Packed
    norm: _Norm

    @staticmethod
    def of(layer: Any) -> _Layer:
        attention = layer.attention.self
        return _Layer(
            query_key_value=_Packed.of(attention.query, attention.key, attention.value),
            attention_out=_Packed.of(layer.attention.output.dense),
            attention_norm=_Norm.of(layer.attention.output.LayerNorm),
            up=_Packed.of(layer.intermediate.dense),
            down=_Packed.of(layer.output.dense),
            norm=_Norm.of(layer.output.LayerNorm),
        )


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
