"""Disentangled attention of one layer: over groups of rows of one length, or over packed rows.

Attention from token i to token j adds the products of i's query and of j's key with embeddings of the distance i - j
(arXiv 2006.03654, section 3.1). The projections of these embeddings depend on the weights alone, and are computed once.

Between n tokens there are 2n - 1 distances. A product with all of them, in order, gives each token a row in which the
distances to the n tokens are consecutive: the term of all pairs is a skewed view of it. Packed rows have different
lengths. Their product is with each embedding once, and the kernel looks up the embedding of a pair.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_spark.inference.kernels.packed_attention import PackedDisentangledAttention
from gliclass_spark.model.encoders.token_rows import RowGroup, TokenRows


@dataclass(frozen=True)
class Distances:
    """The embeddings of distances between tokens: far ones share an embedding, by the logarithm.

    span: the embedding of the distance 0. buckets: how many distances of one sign have an embedding; 0 or less for all.
    """

    span: int
    buckets: int
    limit: int

    @staticmethod
    def of(encoder: Any) -> Distances:
        if not encoder.relative_attention:
            return Distances(0, 0, 0)
        buckets, limit = encoder.position_buckets, encoder.max_relative_positions
        return Distances(buckets if buckets > 0 else limit, buckets, limit)

    def indices(self, tokens: int, device: torch.device) -> Tensor:
        """Return the index of the embedding for each of the distances tokens - 1, ..., 1 - tokens."""
        from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

        distances = torch.arange(tokens - 1, -tokens, -1, device=device)
        if self.buckets > 0:
            distances = make_log_bucket_position(distances, self.buckets, self.limit).long()
        return (distances + self.span).clamp(0, max(2 * self.span - 1, 0))

    def table(self, tokens: int, device: torch.device) -> DistanceTable:
        """Return the embeddings that rows of at most this length need, and where each distance has its own."""
        # Distances up to half the buckets have an embedding each, in order; all others may have any.
        ordered = self.span if self.buckets <= 0 else self.buckets // 2 + 1
        reach = tokens if tokens <= ordered else self.span
        first = self.span - reach
        return DistanceTable(slice(first, self.span + reach), (self.indices(tokens, device) - first).int())


@dataclass(frozen=True)
class DistanceTable:
    """Embeddings of the distances in rows of a certain length.

    embeddings: which of all. indices: for each of the distances tokens - 1, ..., 1 - tokens the number of its embedding
    among them, int32.
    """

    embeddings: slice
    indices: Tensor


@dataclass(frozen=True)
class DisentangledAttention:
    """Attention of one layer.

    keys, queries: of all embeddings of distances, (embeddings, heads, size) each, times the scale.
    """

    heads: int
    scale: float
    keys: Tensor | None
    queries: Tensor | None

    @staticmethod
    def of(attention: Any, embeddings: Tensor | None) -> DisentangledAttention:
        terms = attention.pos_att_type
        scale = 1 / math.sqrt(attention.attention_head_size * (1 + ("c2p" in terms) + ("p2c" in terms)))

        def projected(projection: nn.Linear) -> Tensor:
            product: Tensor = projection(embeddings).float() * scale
            return product.to(projection.weight.dtype).view(len(product), attention.num_attention_heads, -1)

        keys = queries = None
        if embeddings is not None and "c2p" in terms:
            keys = projected(attention.key_proj if attention.share_att_key else attention.pos_key_proj)
        if embeddings is not None and "p2c" in terms:
            queries = projected(attention.query_proj if attention.share_att_key else attention.pos_query_proj)
        return DisentangledAttention(attention.num_attention_heads, scale, keys, queries)

    def over(self, indices: Tensor) -> Callable[[Tensor, RowGroup], Tensor]:
        """Return the attention of groups, from queries, keys and values in one, for `TokenRows.by_group`.

        indices: see `Distances.indices`, for the longest group or more.
        """
        keys = None if self.keys is None else self.keys[indices]
        # Of each key, by the distance from it: behind the last token's comes the first one's.
        queries = None if self.queries is None else self.queries[indices.flip(0)]
        return partial(self._attend, keys, queries)

    def over_packed(
        self, attend: PackedDisentangledAttention, rows: TokenRows, table: DistanceTable, projected: Tensor
    ) -> Tensor:
        """Return the attended values of packed rows, (tokens, hidden).

        projected: queries, keys and values in one, (tokens, 3 * hidden). table: for the longest row or more.
        """
        assert rows.boundaries is not None  # noqa: S101
        query, key, _ = projected.view(len(projected), 3, self.heads, -1).unbind(1)
        c2p = None if self.keys is None else _products(query, self.keys[table.embeddings])
        p2c = None if self.queries is None else _products(key, self.queries[table.embeddings])
        return attend(projected, rows.boundaries, rows.shape[1], self.heads, self.scale, c2p, p2c, table.indices)

    def _attend(self, keys: Tensor | None, queries: Tensor | None, projected: Tensor, group: RowGroup) -> Tensor:
        query, key, value = projected.view(*projected.shape[:2], 3, self.heads, -1).unbind(2)
        terms = []
        if keys is not None:
            terms.append(_skewed_products(query, keys))
        if queries is not None:
            terms.append(_skewed_products(key, queries).transpose(2, 3))
        query, key, value = (states.transpose(1, 2) for states in (query, key, value))
        if len(terms) == 2:
            bias = terms[0] + terms[1]
        else:
            bias = terms[0].contiguous() if terms else query.new_zeros(*query.shape[:3], query.shape[2])
        if group.padding is not None:
            bias = bias.masked_fill_(group.padding[:, None, None] == 0, torch.finfo(bias.dtype).min)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=self.scale)
        return attended.transpose(1, 2)


def _skewed_products(states: Tensor, embeddings: Tensor) -> Tensor:
    """Return the product of each token's state with the embedding for each token, (rows, heads, tokens, tokens).

    states: (rows, tokens, heads, size). embeddings: (2 * n - 1, heads, size) for some n of at least `tokens`; that of
    token j for token i is number n - 1 - i + j.
    """
    rows, tokens, heads, _ = states.shape
    start, width = len(embeddings) // 2 - tokens + 1, 2 * tokens - 1
    embeddings = embeddings[start : start + width]
    products = _products(states.flatten(0, 1), embeddings)
    strides = (tokens * width, rows * tokens * width, width - 1, 1)
    return products.as_strided((rows, heads, tokens, tokens), strides, tokens - 1)


def _products(states: Tensor, embeddings: Tensor) -> Tensor:
    """Return products (heads, tokens, embeddings) of (tokens, heads, size) with (embeddings, heads, size)."""
    return torch.bmm(states.transpose(0, 1), embeddings.permute(1, 2, 0))
