"""Packed DeBERTa-v2 and -v3: disentangled attention without a table of indices for every pair of tokens.

Attention from token i to token j adds the products of i's query and of j's key with embeddings of the distance i - j
(arXiv 2006.03654, section 3.1). The projections of these embeddings depend on the weights alone, and are computed once.
Between n tokens there are 2n - 1 distances. A product with all of them, in order, gives each token a row in which the
distances to the n tokens are consecutive: the term of all pairs is a skewed view of it.
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

from gliclass_spark.model.encoders.bert import BertLayer, LinearFactory
from gliclass_spark.model.encoders.token_rows import RowGroup, TokenRows


def packed_deberta(encoder: Any, linear: LinearFactory) -> PackedDeberta | None:
    """Return a faster copy of a transformers' DebertaV2Model, or None for other encoders and some of its variants."""
    from transformers import DebertaV2Model  # already imported if the encoder is a model of transformers

    if type(encoder) is not DebertaV2Model or encoder.config.hidden_act != "gelu" or encoder.encoder.conv is not None:
        return None
    return PackedDeberta(encoder, linear)


class PackedDeberta:
    """A DeBERTa's forward pass, over the weights as they are at construction.

    Takes token ids and mask, (batch, tokens) each, padded on the right; returns the last states (batch, tokens,
    hidden) in the weights' precision.
    """

    def __init__(self, encoder: Any, linear: LinearFactory) -> None:
        self._embed = encoder.embeddings
        self._distances = _Distances.of(encoder.encoder)
        embeddings = encoder.encoder.get_rel_embedding()
        self._attentions = [_Attention.of(layer.attention.self, embeddings) for layer in encoder.encoder.layer]
        self._layers = [
            BertLayer.of(layer, _projections(layer.attention.self), linear) for layer in encoder.encoder.layer
        ]

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        words: Tensor | None = None,
        *,
        token_count: int | None = None,
    ) -> Tensor:
        """See `Encode`."""
        batch = TokenRows.of(input_ids, attention_mask, token_count)
        indices = self._distances.indices(input_ids.shape[1], input_ids.device)
        ids = input_ids if words is None else None
        states = batch.picked(self._embed(input_ids=ids, inputs_embeds=words, mask=attention_mask))
        for attention, layer in zip(self._attentions, self._layers, strict=True):
            attended = batch.by_group(layer.query_key_value(states), attention.over(indices))
            states = layer.output(attended, states)
        return batch.padded(states)


@dataclass(frozen=True)
class _Distances:
    """The embeddings of distances between tokens: far ones share an embedding, by the logarithm.

    span: the embedding of the distance 0. buckets: how many distances of one sign have an embedding; 0 or less for all.
    """

    span: int
    buckets: int
    limit: int

    @staticmethod
    def of(encoder: Any) -> _Distances:
        if not encoder.relative_attention:
            return _Distances(0, 0, 0)
        buckets, limit = encoder.position_buckets, encoder.max_relative_positions
        return _Distances(buckets if buckets > 0 else limit, buckets, limit)

    def indices(self, tokens: int, device: torch.device) -> Tensor:
        """Return the index of the embedding for each of the distances tokens - 1, ..., 1 - tokens."""
        from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

        distances = torch.arange(tokens - 1, -tokens, -1, device=device)
        if self.buckets > 0:
            distances = make_log_bucket_position(distances, self.buckets, self.limit).long()
        return (distances + self.span).clamp(0, max(2 * self.span - 1, 0))


@dataclass(frozen=True)
class _Attention:
    """Attention of one layer.

    keys, queries: of all embeddings of distances, (embeddings, heads, size) each, times the scale.
    """

    heads: int
    scale: float
    keys: Tensor | None
    queries: Tensor | None

    @staticmethod
    def of(attention: Any, embeddings: Tensor | None) -> _Attention:
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
        return _Attention(attention.num_attention_heads, scale, keys, queries)

    def over(self, indices: Tensor) -> Callable[[Tensor, RowGroup], Tensor]:
        """Return the attention of groups, from queries, keys and values in one, for `TokenRows.by_group`.

        indices: see `_Distances.indices`, for the longest group or more.
        """
        keys = None if self.keys is None else self.keys[indices]
        # Of each key, by the distance from it: behind the last token's comes the first one's.
        queries = None if self.queries is None else self.queries[indices.flip(0)]
        return partial(self._attend, keys, queries)

    def _attend(self, keys: Tensor | None, queries: Tensor | None, projected: Tensor, group: RowGroup) -> Tensor:
        query, key, value = projected.view(*projected.shape[:2], 3, self.heads, -1).unbind(2)
        terms = []
        if keys is not None:
            terms.append(_products(query, keys))
        if queries is not None:
            terms.append(_products(key, queries).transpose(2, 3))
        query, key, value = (states.transpose(1, 2) for states in (query, key, value))
        if len(terms) == 2:
            bias = terms[0] + terms[1]
        else:
            bias = terms[0].contiguous() if terms else query.new_zeros(*query.shape[:3], query.shape[2])
        if group.padding is not None:
            bias = bias.masked_fill_(group.padding[:, None, None] == 0, torch.finfo(bias.dtype).min)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=self.scale)
        return attended.transpose(1, 2)


def _projections(attention: Any) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    return attention.query_proj, attention.key_proj, attention.value_proj


def _products(states: Tensor, embeddings: Tensor) -> Tensor:
    """Return the product of each token's state with the embedding for each token, (rows, heads, tokens, tokens).

    states: (rows, tokens, heads, size). embeddings: (2 * n - 1, heads, size) for some n of at least `tokens`; that of
    token j for token i is number n - 1 - i + j.
    """
    rows, tokens, heads, _ = states.shape
    start, width = len(embeddings) // 2 - tokens + 1, 2 * tokens - 1
    embeddings = embeddings[start : start + width]
    products = torch.bmm(states.flatten(0, 1).transpose(0, 1), embeddings.permute(1, 2, 0))
    strides = (tokens * width, rows * tokens * width, width - 1, 1)
    return products.as_strided((rows, heads, tokens, tokens), strides, tokens - 1)
