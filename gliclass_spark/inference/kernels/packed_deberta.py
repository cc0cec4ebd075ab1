"""Packed DeBERTa-v2 and -v3: a BERT with disentangled attention, whose distances are projected once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

from torch import Tensor, nn

from gliclass_spark.inference.kernels.disentangled_attention import DisentangledAttention, Distances
from gliclass_spark.inference.kernels.packed_attention import PackedDisentangledAttention
from gliclass_spark.model.encoders.bert import BertLayer, LinearFactory
from gliclass_spark.model.encoders.token_rows import TokenRows

# Tables of distances are made for multiples of this length, and kept.
_TABLE_TOKENS = 64
_CACHED_TABLES = 64


def packed_deberta(
    encoder: Any, linear: LinearFactory, varlen: PackedDisentangledAttention | None = None
) -> PackedDeberta | None:
    """Return a faster copy of a transformers' DebertaV2Model, or None for other encoders and some of its variants.

    varlen: attention over packed rows, without padding; None takes that of `TokenRows.of`.
    """
    from transformers import DebertaV2Model  # already imported if the encoder is a model of transformers

    if type(encoder) is not DebertaV2Model or encoder.config.hidden_act != "gelu" or encoder.encoder.conv is not None:
        return None
    return PackedDeberta(encoder, linear, varlen)


class PackedDeberta:
    """A DeBERTa's forward pass, over the weights as they are at construction.

    Takes token ids and mask, (batch, tokens) each, padded on the right; returns the last states (batch, tokens,
    hidden) in the weights' precision.
    """

    def __init__(self, encoder: Any, linear: LinearFactory, varlen: PackedDisentangledAttention | None = None) -> None:
        self._varlen = varlen
        self._embed = encoder.embeddings
        self._distances = Distances.of(encoder.encoder)
        self._table = lru_cache(maxsize=_CACHED_TABLES)(self._distances.table)
        embeddings = encoder.encoder.get_rel_embedding()
        self._attentions = [
            DisentangledAttention.of(layer.attention.self, embeddings) for layer in encoder.encoder.layer
        ]
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
        of = TokenRows.of if self._varlen is None else TokenRows.packed
        batch = of(input_ids, attention_mask, token_count)
        ids = input_ids if words is None else None
        states = batch.picked(self._embed(input_ids=ids, inputs_embeds=words, mask=attention_mask))
        for attend, layer in zip(self._attends(batch), self._layers, strict=True):
            states = layer.output(attend(layer.query_key_value(states)), states)
        return batch.padded(states)

    def _attends(self, batch: TokenRows) -> Iterator[Callable[[Tensor], Tensor]]:
        """Yield the attention of each layer, from queries, keys and values in one to attended values."""
        tokens, device = batch.shape[1], batch.input_ids.device
        if self._varlen is None:
            indices = self._distances.indices(tokens, device)
            for attention in self._attentions:
                yield partial(batch.by_group, attend=attention.over(indices))
        else:
            table = self._table(-(-tokens // _TABLE_TOKENS) * _TABLE_TOKENS, device)
            for attention in self._attentions:
                yield partial(attention.over_packed, self._varlen, batch, table)


def _projections(attention: Any) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    return attention.query_proj, attention.key_proj, attention.value_proj
