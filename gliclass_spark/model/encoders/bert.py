"""BERT's layers, step by step: over `BertWeights` or transformers' BertModel, however their products are computed.

transformers' own BertModel can neither let a text read the keys and values of something else, nor
be given faster products. The sums are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class Linear(Protocol):
    """A linear layer, (tokens, inputs) -> (tokens, outputs), and what a BERT does right behind it."""

    def __call__(self, inputs: Tensor) -> Tensor: ...
    def gelu(self, inputs: Tensor) -> Tensor: ...
    def added(self, inputs: Tensor, residual: Tensor) -> Tensor: ...


class MakeLinear(Protocol):
    """From layers that read the same input, side by side."""

    def __call__(self, *linears: nn.Linear) -> Linear: ...


@dataclass(frozen=True)
class KeysValues:
    """What every layer lets others read of some rows, (layers, rows, heads, size) each."""

    keys: Tensor
    values: Tensor

    @staticmethod
    def joined(parts: Sequence[KeysValues]) -> KeysValues:
        """The rows of all parts, in their order."""
        return KeysValues(
            torch.cat([part.keys for part in parts], dim=1), torch.cat([part.values for part in parts], dim=1)
        )

    def __getitem__(self, row: int) -> KeysValues:
        """One row's."""
        return KeysValues(self.keys[:, row : row + 1], self.values[:, row : row + 1])


class PlainLinear:
    """By torch, and with gradients."""

    def __init__(self, *linears: nn.Linear) -> None:
        self._linears = linears

    def __call__(self, inputs: Tensor) -> Tensor:
        return torch.cat([linear(inputs) for linear in self._linears], dim=-1)

    def gelu(self, inputs: Tensor) -> Tensor:
        return functional.gelu(self(inputs))

    def added(self, inputs: Tensor, residual: Tensor) -> Tensor:
        return self(inputs) + residual


class Bert:
    """A BERT's weights, as they are when this is made. Gives (batch, tokens, hidden) in their precision, no dropout."""

    def __init__(self, bert: Any, linear: MakeLinear = PlainLinear) -> None:
        embeddings = bert.embeddings
        self._heads = bert.config.num_attention_heads
        self._words = embeddings.word_embeddings.weight
        # Every token is of segment 0: its embedding is added to the positions' once, not to each batch.
        self._positions = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        self._norm = _Norm.of(embeddings.LayerNorm)
        self._layers = [_Layer.of(layer, linear) for layer in bert.encoder.layer]

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The last states of rows whose tokens read their own row."""
        rows, tokens = input_ids.shape
        mask = _own(attention_mask)
        states = self._embedded(input_ids)
        for layer in self._layers:
            query, key, value = self._split(layer.query_key_value(states), rows)
            read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            states = layer.behind(read, states)
        return states.view(rows, tokens, -1)

    def remembered(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, KeysValues]:
        """The last states, and the mean keys and values of each row, for other rows to read."""
        rows, tokens = input_ids.shape
        mask = _own(attention_mask)
        present = attention_mask[:, None, :, None]
        count = present.sum(dim=2)
        kept: list[tuple[Tensor, Tensor]] = []
        states = self._embedded(input_ids)
        for layer in self._layers:
            query, key, value = self._split(layer.query_key_value(states), rows)
            kept.append(((key * present).sum(dim=2) / count, (value * present).sum(dim=2) / count))
            read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            states = layer.behind(read, states)
        keys, values = zip(*kept, strict=True)
        return states.view(rows, tokens, -1), KeysValues(torch.stack(keys), torch.stack(values))

    def beside(self, input_ids: Tensor, attention_mask: Tensor, others: KeysValues, bias: Tensor) -> Tensor:
        """The last states of rows whose tokens read their own row and all `others`.

        bias: (layers, heads), added to the logits of attending to the others. The log of their number
        is taken off, so that many of them together weigh as much as one.
        """
        rows, tokens = input_ids.shape
        count = others.keys.shape[1]
        own = torch.zeros(attention_mask.shape, dtype=self._words.dtype, device=input_ids.device)
        own = own.masked_fill(attention_mask == 0, float("-inf"))[:, None, None, :].expand(-1, self._heads, -1, -1)
        states = self._embedded(input_ids)
        for number, layer in enumerate(self._layers):
            query, key, value = self._split(layer.query_key_value(states), rows)
            theirs = (bias[number] - math.log(count)).to(own.dtype)[None, :, None, None].expand(rows, -1, -1, count)
            read = functional.scaled_dot_product_attention(
                query,
                torch.cat([_shared(others.keys[number], rows), key], dim=2),
                torch.cat([_shared(others.values[number], rows), value], dim=2),
                attn_mask=torch.cat([theirs, own], dim=-1),
            )
            states = layer.behind(read, states)
        return states.view(rows, tokens, -1)

    def _embedded(self, input_ids: Tensor) -> Tensor:
        embedded = functional.embedding(input_ids, self._words) + self._positions[: input_ids.shape[1]]
        return self._norm(embedded.flatten(0, 1))

    def _split(self, projected: Tensor, rows: int) -> list[Tensor]:
        """Query, key and value, each (rows, heads, tokens, size)."""
        parts = projected.view(rows, -1, 3, self._heads, projected.shape[-1] // (3 * self._heads)).unbind(2)
        return [part.transpose(1, 2) for part in parts]


@dataclass(frozen=True)
class _Norm:
    weight: Tensor
    bias: Tensor
    epsilon: float

    @staticmethod
    def of(norm: nn.LayerNorm) -> _Norm:
        return _Norm(norm.weight, norm.bias, norm.eps)

    def __call__(self, states: Tensor) -> Tensor:
        return functional.layer_norm(states, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True)
class _Layer:
    query_key_value: Linear
    attention_out: Linear
    attention_norm: _Norm
    up: Linear
    down: Linear
    norm: _Norm

    @staticmethod
    def of(layer: Any, linear: MakeLinear) -> _Layer:
        attention = layer.attention.self
        return _Layer(
            query_key_value=linear(attention.query, attention.key, attention.value),
            attention_out=linear(layer.attention.output.dense),
            attention_norm=_Norm.of(layer.attention.output.LayerNorm),
            up=linear(layer.intermediate.dense),
            down=linear(layer.output.dense),
            norm=_Norm.of(layer.output.LayerNorm),
        )

    def behind(self, read: Tensor, states: Tensor) -> Tensor:
        """What stands behind attention: (rows, heads, tokens, size) and the layer's input to its output."""
        states = self.attention_norm(self.attention_out.added(read.transpose(1, 2).reshape(len(states), -1), states))
        return self.norm(self.down.added(self.up.gelu(states), states))


def _own(attention_mask: Tensor) -> Tensor | None:
    # Without padding there is nothing to mask, and attention is faster for it.
    return None if bool(attention_mask.all()) else attention_mask.bool()[:, None, None, :]


def _shared(part: Tensor, rows: int) -> Tensor:
    """What every row reads alike: (others, heads, size) to (rows, heads, others, size)."""
    return part.transpose(0, 1).expand(rows, -1, -1, -1)
