"""BERT's forward pass, over `BertWeights` or transformers' BertModel.

transformers' own BertModel can neither attend to the keys and values of other inputs, nor take faster matrix
products. The results are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_spark.model.encoders.token_rows import RowGroup, TokenRows
from gliclass_spark.model.encoders.varlen import VarlenAttention, attend_packed


class Linear(Protocol):
    """A linear layer, (tokens, inputs) -> (tokens, outputs), alone or fused with the operation that follows it."""

    def __call__(self, inputs: Tensor) -> Tensor: ...
    def gelu(self, inputs: Tensor) -> Tensor: ...
    def add(self, inputs: Tensor, residual: Tensor) -> Tensor: ...


class LinearFactory(Protocol):
    """Makes one linear layer of several that have the same input; their outputs are concatenated."""

    def __call__(self, *linears: nn.Linear) -> Linear: ...


@dataclass(frozen=True)
class KeysValues:
    """Keys and values of every layer, (layers, rows, heads, size) each."""

    keys: Tensor
    values: Tensor

    @staticmethod
    def concatenate(parts: Sequence[KeysValues]) -> KeysValues:
        """Return the rows of all parts, in their order."""
        return KeysValues(
            torch.cat([part.keys for part in parts], dim=1), torch.cat([part.values for part in parts], dim=1)
        )

    def __getitem__(self, row: int) -> KeysValues:
        """Return one row."""
        return KeysValues(self.keys[:, row : row + 1], self.values[:, row : row + 1])


# Attention of a layer, by number, in a group of rows: from queries, keys and values to attended values, (rows, heads,
# tokens, size) each.
_Attend = Callable[[int, Tensor, Tensor, Tensor, RowGroup], Tensor]


class PlainLinear:
    """Linear layers by torch, with gradients."""

    def __init__(self, *linears: nn.Linear) -> None:
        self._linears = linears

    def __call__(self, inputs: Tensor) -> Tensor:
        return torch.cat([linear(inputs) for linear in self._linears], dim=-1)

    def gelu(self, inputs: Tensor) -> Tensor:
        return functional.gelu(self(inputs))

    def add(self, inputs: Tensor, residual: Tensor) -> Tensor:
        return self(inputs) + residual


class Bert:
    """A BERT's forward pass without dropout, over the weights as they are at construction.

    Takes token ids and mask, (batch, tokens) each; returns states (batch, tokens, hidden) in the weights' precision.

    copies_weights: whether it needs those of the BERT's linear layers no longer.
    """

    def __init__(self, bert: Any, linear: LinearFactory = PlainLinear, varlen: VarlenAttention | None = None) -> None:
        """varlen: attention over packed rows, without padding; None takes that of `TokenRows.of`."""
        embeddings = bert.embeddings
        self.copies_weights = linear is not PlainLinear
        self._varlen = varlen
        self._heads = bert.config.num_attention_heads
        self._words = embeddings.word_embeddings.weight
        # Every token is of segment 0: its embedding is added to the positions' once, not to each batch.
        self._positions = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        self._norm = _Norm.of(embeddings.LayerNorm)
        self._layers = [BertLayer.of(layer, _projections(layer.attention.self), linear) for layer in bert.encoder.layer]

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        words: Tensor | None = None,
        *,
        token_count: int | None = None,
    ) -> Tensor:
        """See `Encode`."""
        if self._varlen is not None:
            rows = TokenRows.packed(input_ids, attention_mask, token_count)
            packed = partial(attend_packed, self._varlen, rows=rows, heads=self._heads)
            return self._encode(rows, lambda _, projected: packed(projected), words)

        def attend(_: int, query: Tensor, key: Tensor, value: Tensor, group: RowGroup) -> Tensor:
            return functional.scaled_dot_product_attention(query, key, value, attn_mask=_boolean_mask(group))

        rows = TokenRows.of(input_ids, attention_mask, token_count)
        return self._encode(rows, self._by_group(rows, attend), words)

    def encode_with_keys_values(
        self, input_ids: Tensor, attention_mask: Tensor, token_count: int | None = None
    ) -> tuple[Tensor, KeysValues]:
        """Return the last states, and the mean key and value of each row in every layer. token_count: see `Encode`."""
        means: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self._layers]

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor, group: RowGroup) -> Tensor:
            means[layer].append((_mean_token(key, group), _mean_token(value, group)))
            return functional.scaled_dot_product_attention(query, key, value, attn_mask=_boolean_mask(group))

        rows = TokenRows.of(input_ids, attention_mask, token_count)
        states = self._encode(rows, self._by_group(rows, attend))
        keys, values = (
            torch.stack([torch.cat([group[part] for group in layer]) for layer in means]) for part in (0, 1)
        )
        return states, KeysValues(keys, values)

    def encode_attending(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        context: KeysValues,
        bias: Tensor,
        token_count: int | None = None,
    ) -> Tensor:
        """Return the last states of rows whose tokens attend to their own row and to all of `context`.

        bias: (layers, heads), added to the attention logits of the context, less the log of its number of rows: so
        many rows together weigh as much as one. token_count: see `Encode`.
        """
        count = context.keys.shape[1]
        context_bias = (bias - math.log(count)).to(self._words.dtype)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor, group: RowGroup) -> Tensor:
            rows, _, tokens, _ = key.shape
            own_mask = query.new_zeros(rows, self._heads, 1, tokens)
            if group.padding is not None:
                own_mask = own_mask.masked_fill(group.padding[:, None, None] == 0, float("-inf"))
            context_mask = context_bias[layer][None, :, None, None].expand(rows, -1, -1, count)
            return functional.scaled_dot_product_attention(
                query,
                torch.cat([_for_each_row(context.keys[layer], rows), key], dim=2),
                torch.cat([_for_each_row(context.values[layer], rows), value], dim=2),
                attn_mask=torch.cat([context_mask, own_mask], dim=-1),
            )

        rows = TokenRows.of(input_ids, attention_mask, token_count)
        return self._encode(rows, self._by_group(rows, attend))

    def _encode(self, rows: TokenRows, attend: Callable[[int, Tensor], Tensor], words: Tensor | None = None) -> Tensor:
        """attend: of a layer, by number, from queries, keys and values in one to attended values, (tokens, ...)."""
        embedded = functional.embedding(rows.input_ids, self._words) if words is None else rows.picked(words)
        states = self._norm(embedded + self._positions[rows.positions])
        for number, layer in enumerate(self._layers):
            states = layer.output(attend(number, layer.query_key_value(states)), states)
        return rows.padded(states)

    def _by_group(self, rows: TokenRows, attend: _Attend) -> Callable[[int, Tensor], Tensor]:
        return lambda number, projected: rows.by_group(projected, partial(self._attend, partial(attend, number)))

    def _attend(
        self, attend: Callable[[Tensor, Tensor, Tensor, RowGroup], Tensor], projected: Tensor, group: RowGroup
    ) -> Tensor:
        parts = projected.view(*projected.shape[:2], 3, self._heads, -1).unbind(2)
        query, key, value = (part.transpose(1, 2) for part in parts)
        return attend(query, key, value, group).transpose(1, 2)


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
class BertLayer:
    """A layer of BERT or DeBERTa, less its attention: each half is normalized behind its sum."""

    query_key_value: Linear
    attention_out: Linear
    attention_norm: _Norm
    up: Linear
    down: Linear
    norm: _Norm

    @staticmethod
    def of(layer: Any, projections: Sequence[nn.Linear], linear: LinearFactory) -> BertLayer:
        """Return the layer. projections: of the query, the key and the value."""
        return BertLayer(
            query_key_value=linear(*projections),
            attention_out=linear(layer.attention.output.dense),
            attention_norm=_Norm.of(layer.attention.output.LayerNorm),
            up=linear(layer.intermediate.dense),
            down=linear(layer.output.dense),
            norm=_Norm.of(layer.output.LayerNorm),
        )

    def output(self, attended: Tensor, states: Tensor) -> Tensor:
        """Return the layer's output, from attention's and the layer's input, (tokens, hidden) each."""
        states = self.attention_norm(self.attention_out.add(attended, states))
        return self.norm(self.down.add(self.up.gelu(states), states))


def _projections(attention: Any) -> Sequence[nn.Linear]:
    return attention.query, attention.key, attention.value


def _boolean_mask(group: RowGroup) -> Tensor | None:
    return None if group.padding is None else group.padding.bool()[:, None, None, :]


def _mean_token(states: Tensor, group: RowGroup) -> Tensor:
    """Return the mean over each row's tokens, (rows, heads, tokens, size) to (rows, heads, size)."""
    if group.padding is None:
        return states.mean(dim=2)
    present = group.padding[:, None, :, None]
    return (states * present).sum(dim=2) / present.sum(dim=2)


def _for_each_row(context: Tensor, rows: int) -> Tensor:
    """Return the same context for every row: (context, heads, size) to (rows, heads, context, size)."""
    return context.transpose(0, 1).expand(rows, -1, -1, -1)
