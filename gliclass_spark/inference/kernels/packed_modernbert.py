"""Packed ModernBERT: local attention in blocks of neighbours, rotary embeddings as complex products.

ModernBERT (arXiv 2412.13663, section 2.1) attends globally in some layers and locally, to the nearest tokens, in all
others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_spark.model.encoders.bert import Linear, LinearFactory
from gliclass_spark.model.encoders.token_rows import RowGroup, TokenRows
from gliclass_spark.model.encoders.varlen import VarlenAttention, attend_packed

_LOCAL = "sliding_attention"
# Tokens of a block of local attention, or twice the window if that is more: a block attends to a window more on each
# side.
_MIN_BLOCK_TOKENS = 64


def packed_modernbert(
    encoder: Any, linear: LinearFactory, varlen: VarlenAttention | None = None
) -> PackedModernBert | None:
    """Return a faster copy of a transformers' ModernBertModel, or None for other encoders and some of its variants.

    varlen: attention over packed rows, without padding; None takes that of `TokenRows.of`.
    """
    from transformers import ModernBertModel  # already imported if the encoder is a model of transformers

    if type(encoder) is not ModernBertModel or encoder.config.hidden_activation != "gelu":
        return None
    if any(rope_type != "default" for rope_type in encoder.rotary_emb.rope_type.values()):
        return None
    return PackedModernBert(encoder, linear, varlen)


class PackedModernBert:
    """A ModernBERT's forward pass, over the weights as they are at construction.

    Takes token ids and mask, (batch, tokens) each, padded on the right; returns the last states (batch, tokens,
    hidden) in the weights' precision.
    """

    def __init__(self, encoder: Any, linear: LinearFactory, varlen: VarlenAttention | None = None) -> None:
        self._varlen = varlen
        self._embed = encoder.embeddings
        self._final_norm = encoder.final_norm
        self._heads: int = encoder.config.num_attention_heads
        self._window: int = encoder.config.sliding_window
        self._layers = [_Layer.of(layer, linear) for layer in encoder.layers]
        self._frequencies = {
            layer.attention_type: getattr(encoder.rotary_emb, f"{layer.attention_type}_inv_freq").float()
            for layer in encoder.layers
        }

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        words: Tensor | None = None,
        *,
        token_count: int | None = None,
    ) -> Tensor:
        """See `Encode`."""
        of = TokenRows.of if self._varlen is None else TokenRows.packed
        batch = of(input_ids, attention_mask, token_count)
        states = batch.picked(self._embed(input_ids, words))
        rotations = {kind: _rotations(inverse, batch.positions) for kind, inverse in self._frequencies.items()}
        attends = {kind: self._attention(batch, kind, states) for kind in self._frequencies}
        for layer in self._layers:
            projected = layer.query_key_value(layer.attention_norm(states))
            _rotate(projected.view(len(states), 3, self._heads, -1)[:, :2], rotations[layer.kind])
            states = layer.attention_out.add(attends[layer.kind](projected), states)
            gate, value = layer.up(layer.norm(states)).chunk(2, dim=-1)
            states = layer.down.add(functional.gelu(gate).mul_(value), states)
        return batch.padded(self._final_norm(states))

    def _attention(self, batch: TokenRows, kind: str, states: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a kind's attention, from queries, keys and values in one to attended values, (tokens, hidden)."""
        window = self._window if kind == _LOCAL else None
        if self._varlen is not None:
            return partial(attend_packed, self._varlen, rows=batch, heads=self._heads, window=window)
        return partial(batch.by_group, attend=_Attention(self._heads, window, batch.groups, states))


@dataclass(frozen=True)
class _Layer:
    kind: str
    attention_norm: nn.Module
    query_key_value: Linear
    attention_out: Linear
    norm: nn.Module
    up: Linear
    down: Linear

    @staticmethod
    def of(layer: Any, linear: LinearFactory) -> _Layer:
        return _Layer(
            kind=layer.attention_type,
            attention_norm=layer.attn_norm,
            query_key_value=linear(_with_adjacent_pairs(layer.attn.Wqkv, layer.attn.head_dim)),
            attention_out=linear(layer.attn.Wo),
            norm=layer.mlp_norm,
            up=linear(layer.mlp.Wi),
            down=linear(layer.mlp.Wo),
        )


def _with_adjacent_pairs(query_key_value: nn.Linear, size: int) -> nn.Linear:
    """Return the projection with the features of queries and keys in another order, which no product of them sees.

    The rotation turns feature i and feature i + size / 2 of a head together. In this order they are neighbours, as the
    parts of a complex number are.
    """
    rows = torch.arange(query_key_value.out_features, device=query_key_value.weight.device)
    heads = rows[: len(rows) // 3 * 2].view(-1, 2, size // 2)
    order = torch.cat([heads.transpose(1, 2).flatten(), rows[heads.numel() :]])
    ordered = nn.Linear(
        query_key_value.in_features,
        query_key_value.out_features,
        bias=query_key_value.bias is not None,
        device="meta",
    )
    ordered.weight = nn.Parameter(query_key_value.weight[order], requires_grad=False)
    if query_key_value.bias is not None:
        ordered.bias = nn.Parameter(query_key_value.bias[order], requires_grad=False)
    return ordered


def _rotations(frequencies: Tensor, positions: Tensor) -> Tensor:
    """Return the rotation of each token, (tokens, 1, 1, size / 2), complex (RoPE, arXiv 2104.09864)."""
    angles = positions[:, None] * frequencies
    return torch.polar(torch.ones_like(angles), angles)[:, None, None]


def _rotate(queries_keys: Tensor, rotations: Tensor) -> None:
    """Rotate queries and keys (tokens, 2, heads, size) in place."""
    *shape, size = queries_keys.shape
    rotated = torch.view_as_complex(queries_keys.float().view(*shape, size // 2, 2)).mul_(rotations)
    if queries_keys.dtype != torch.float32:
        queries_keys.copy_(torch.view_as_real(rotated).view(*shape, size))


@dataclass(frozen=True)
class _Block:
    """Consecutive queries, the keys that one of them attends to, and the mask of what they do not.

    mask: added to the attention logits, (rows or 1, 1, queries or 1, keys); None if every query attends to every key.
    """

    queries: slice
    keys: slice
    mask: Tensor | None


class _Attention:
    """Attention of groups to the tokens at most `window` away, or to all, for `TokenRows.by_group`.

    states: of the precision and on the device of the masks, which are made once for all layers.
    """

    def __init__(self, heads: int, window: int | None, groups: Sequence[RowGroup], states: Tensor) -> None:
        self._heads = heads
        self._blocks = {group.tokens.start: list(_blocks(group, window, states)) for group in groups}

    def __call__(self, projected: Tensor, group: RowGroup) -> Tensor:
        """Return the attended values (rows, tokens, heads, size)."""
        parts = projected.view(*projected.shape[:2], 3, self._heads, -1).unbind(2)
        query, key, value = (part.transpose(1, 2) for part in parts)
        attended = [
            functional.scaled_dot_product_attention(
                query[:, :, block.queries], key[:, :, block.keys], value[:, :, block.keys], attn_mask=block.mask
            ).transpose(1, 2)
            for block in self._blocks[group.tokens.start]
        ]
        return attended[0] if len(attended) == 1 else torch.cat(attended, dim=1)


def _blocks(group: RowGroup, window: int | None, states: Tensor) -> Iterator[_Block]:
    tokens = (group.tokens.stop - group.tokens.start) // group.rows
    is_local = window is not None and window + 1 < tokens
    reach = window if window is not None and is_local else tokens
    size = max(2 * reach, _MIN_BLOCK_TOKENS)
    positions = torch.arange(tokens, device=states.device)
    for start in range(0, tokens, size):
        queries = slice(start, min(start + size, tokens))
        keys = slice(max(start - reach, 0), min(queries.stop + reach, tokens))
        allowed = None if group.padding is None else group.padding[:, None, None, keys] != 0
        if is_local:
            near = (positions[queries, None] - positions[keys]).abs() <= reach
            allowed = near[None, None] if allowed is None else allowed & near
        yield _Block(queries, keys, None if allowed is None else _additive(allowed, states.dtype))


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    # Not minus infinity: a query of padding may have no key at all, and its states must be numbers.
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)
