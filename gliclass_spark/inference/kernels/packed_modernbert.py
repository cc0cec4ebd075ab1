"""Packed ModernBERT: local attention in blocks of neighbours, rotary embeddings as complex products.

ModernBERT (arXiv 2412.13663, section 2.1) attends globally in some layers and locally, to the nearest tokens, in all
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_spark.model.encoders.bert import Linear, LinearFactory

_LOCAL = "sliding_attention"
# Tokens of a block of local attention, or twice the window if that is more: a block attends to a window more on each
# side.
_MIN_BLOCK_TOKENS = 64


def packed_modernbert(encoder: Any, linear: LinearFactory) -> PackedModernBert | None:
    """Return a faster copy of a transformers' ModernBertModel, or None for other encoders and some of its variants."""
    from transformers import ModernBertModel  # already imported if the encoder is a model of transformers

    if type(encoder) is not ModernBertModel or encoder.config.hidden_activation != "gelu":
        return None
    if any(rope_type != "default" for rope_type in encoder.rotary_emb.rope_type.values()):
        return None
    return PackedModernBert(encoder, linear)


class PackedModernBert:
    """A ModernBERT's forward pass, over the weights as they are at construction.

    Takes token ids and mask, (batch, tokens) each, padded on the right; returns the last states (batch, tokens,
    hidden) in the weights' precision.
    """

    def __init__(self, encoder: Any, linear: LinearFactory) -> None:
        self._embed = encoder.embeddings
        self._final_norm = encoder.final_norm
        self._heads: int = encoder.config.num_attention_heads
        self._window: int = encoder.config.sliding_window
        self._layers = [_Layer.of(layer, linear) for layer in encoder.layers]
        self._frequencies = {
            layer.attention_type: getattr(encoder.rotary_emb, f"{layer.attention_type}_inv_freq").float()
            for layer in encoder.layers
        }

    def __call__(self, input_ids: Tensor, attention_mask: Tensor, words: Tensor | None = None) -> Tensor:
        """See `Encode`."""
        rows, tokens = input_ids.shape
        states: Tensor = self._embed(input_ids, words).flatten(0, 1)
        rotations = {kind: _rotations(frequencies, tokens) for kind, frequencies in self._frequencies.items()}
        present = None if bool(attention_mask.all()) else attention_mask.bool()
        blocks = {
            kind: _blocks(present, tokens, self._window if kind == _LOCAL else tokens, states)
            for kind in self._frequencies
        }
        for layer in self._layers:
            projected = layer.query_key_value(layer.attention_norm(states)).view(rows, tokens, 3, self._heads, -1)
            _rotate(projected[:, :, :2], rotations[layer.kind])
            attended = _attend(projected, blocks[layer.kind])
            states = layer.attention_out.add(attended.view(rows * tokens, -1), states)
            gate, value = layer.up(layer.norm(states)).chunk(2, dim=-1)
            states = layer.down.add(functional.gelu(gate).mul_(value), states)
        last: Tensor = self._final_norm(states).view(rows, tokens, -1)
        return last


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


def _rotations(frequencies: Tensor, tokens: int) -> Tensor:
    """Return the rotation of each position, (tokens, 1, 1, size / 2), complex (RoPE, arXiv 2104.09864)."""
    angles = torch.arange(tokens, device=frequencies.device, dtype=torch.float32)[:, None] * frequencies
    return torch.polar(torch.ones_like(angles), angles)[:, None, None]


def _rotate(queries_keys: Tensor, rotations: Tensor) -> None:
    """Rotate queries and keys (rows, tokens, 2, heads, size) in place."""
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


def _blocks(present: Tensor | None, tokens: int, window: int, states: Tensor) -> list[_Block]:
    """Return the blocks of attention to the tokens at most `window` away.

    present: which tokens are no padding, (rows, tokens); None if none is. states: of the precision and the device.
    """
    size = tokens if window + 1 >= tokens else max(2 * window, _MIN_BLOCK_TOKENS)
    positions = torch.arange(tokens, device=states.device)
    blocks = []
    for start in range(0, tokens, size):
        queries = slice(start, min(start + size, tokens))
        keys = slice(max(start - window, 0), min(queries.stop + window, tokens))
        allowed = None if present is None else present[:, None, None, keys]
        if window + 1 < tokens:
            near = (positions[queries, None] - positions[keys]).abs() <= window
            allowed = near[None, None] if allowed is None else allowed & near
        blocks.append(_Block(queries, keys, None if allowed is None else _additive(allowed, states.dtype)))
    return blocks


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    # Not minus infinity: a query of padding may have no key at all, and its states must be numbers.
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)


def _attend(projected: Tensor, blocks: Sequence[_Block]) -> Tensor:
    """Return the attended values (rows, tokens, heads, size) of queries, keys and values in dimension 2."""
    query, key, value = (part.transpose(1, 2) for part in projected.unbind(2))
    attended = [
        functional.scaled_dot_product_attention(
            query[:, :, block.queries], key[:, :, block.keys], value[:, :, block.keys], attn_mask=block.mask
        ).transpose(1, 2)
        for block in blocks
    ]
    return attended[0].contiguous() if len(attended) == 1 else torch.cat(attended, dim=1)
