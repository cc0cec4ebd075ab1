"""The label-cached architecture: one encoder, which encodes each label once, alone.

In the uni-encoder each label is encoded again beside every text, and a text's scores depend on the order of the
labels. Here they don't, no window limits the number of labels, and a label's states are computed once. Without any
training the score is the similarity of the encoder's mean embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_spark.model.configuration import LabelCachedConfig
from gliclass_spark.model.encoders.backbone import build_encoder
from gliclass_spark.model.encoders.bert import Bert, KeysValues
from gliclass_spark.model.encoders.bert_weights import BertWeights, is_plain_bert

# So low that the labels hardly change the text's states before training has raised it.
_INITIAL_LABEL_BIAS = -3.0


@dataclass(frozen=True)
class LabelStates:
    """What the model computes of labels alone.

    vectors: (labels, hidden), of length 1.
    keys_values: what texts attend to in every layer; None for a model whose texts don't attend to labels.
    logit_offsets: (labels,), added to the labels' logits.
    """

    vectors: Tensor
    keys_values: KeysValues | None
    logit_offsets: Tensor

    @staticmethod
    def concatenate(parts: list[LabelStates]) -> LabelStates:
        """Return the labels of all parts, in their order."""
        vectors = torch.cat([part.vectors for part in parts])
        keys_values = [part.keys_values for part in parts if part.keys_values is not None]
        offsets = torch.cat([part.logit_offsets for part in parts])
        return LabelStates(vectors, KeysValues.concatenate(keys_values) if keys_values else None, offsets)

    def __getitem__(self, label: int) -> LabelStates:
        """Return the states of one label."""
        row = slice(label, label + 1)
        keys_values = self.keys_values[label] if self.keys_values else None
        return LabelStates(self.vectors[row], keys_values, self.logit_offsets[row])


class LabelCachedModel(nn.Module):
    """Encoder, two residual projections and a scaled cosine."""

    def __init__(self, config: LabelCachedConfig) -> None:
        super().__init__()
        self.config = config
        encoder = config.encoder_config
        plain = is_plain_bert(encoder)
        self.encoder_model = BertWeights(encoder) if plain else build_encoder(encoder, config.vocab_size)
        size = encoder.hidden_size
        self.text_projector = nn.Linear(size, size)
        self.label_projector = nn.Linear(size, size)
        for projector in (self.text_projector, self.label_projector):
            nn.init.zeros_(projector.weight)
            nn.init.zeros_(projector.bias)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        self.logit_offset = nn.Parameter(torch.tensor(config.logit_offset_init_value))
        if config.text_reads_labels:
            self.label_bias = nn.Parameter(
                torch.full((encoder.num_hidden_layers, encoder.num_attention_heads), _INITIAL_LABEL_BIAS)
            )

    @property
    def transformers(self) -> tuple[nn.Module, ...]:
        """The large part, which may run in a lower precision than the head."""
        return (self.encoder_model,)

    def label_states(
        self, input_ids: Tensor, attention_mask: Tensor, bert: Bert | None = None, token_count: int | None = None
    ) -> LabelStates:
        """Return the states of labels, for token ids and mask, (labels, tokens) each, padded on the right.

        bert: a faster forward pass of the same encoder. token_count: see `Encode`.
        """
        keys_values = None
        if self.config.text_reads_labels:
            bert = bert or Bert(self.encoder_model)
            states, keys_values = bert.encode_with_keys_values(input_ids, attention_mask, token_count)
        else:
            states = self._encode(input_ids, attention_mask, bert, token_count)
        vectors = _unit_vectors(states, attention_mask, self.label_projector)
        return LabelStates(vectors, keys_values, torch.zeros_like(vectors[:, 0]))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: LabelStates,
        bert: Bert | None = None,
        token_count: int | None = None,
    ) -> Tensor:
        """Return logits (batch, labels) for token ids and mask of texts, (batch, tokens) each, padded on the right.

        token_count: see `Encode`.
        """
        vectors = self.text_vectors(input_ids, attention_mask, labels.keys_values, bert, token_count)
        return self.logits(vectors, labels)

    def logits(self, text_vectors: Tensor, labels: LabelStates) -> Tensor:
        """Return logits (texts, labels) of text vectors, (texts, hidden)."""
        return text_vectors @ labels.vectors.T * self.logit_scale + self.logit_offset + labels.logit_offsets

    def text_vectors(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        label_keys_values: KeysValues | None = None,
        bert: Bert | None = None,
        token_count: int | None = None,
    ) -> Tensor:
        """Return text vectors (batch, hidden) of length 1, to compare with those of the labels.

        label_keys_values: what the texts attend to besides themselves. token_count: see `Encode`.
        """
        if label_keys_values is None:
            states = self._encode(input_ids, attention_mask, bert, token_count)
        else:
            bert = bert or Bert(self.encoder_model)
            states = bert.encode_attending(input_ids, attention_mask, label_keys_values, self.label_bias, token_count)
        return _unit_vectors(states, attention_mask, self.text_projector)

    def _encode(
        self, input_ids: Tensor, attention_mask: Tensor, bert: Bert | None, token_count: int | None = None
    ) -> Tensor:
        if bert is None and isinstance(self.encoder_model, BertWeights):
            bert = Bert(self.encoder_model)
        if bert is not None:
            return bert(input_ids, attention_mask, token_count=token_count)
        states: Tensor = self.encoder_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


def _unit_vectors(states: Tensor, attention_mask: Tensor, projector: nn.Linear) -> Tensor:
    """Return the mean token state plus its projection, (rows, hidden), at length 1."""
    weight = attention_mask.unsqueeze(-1).to(projector.weight.dtype)
    mean = (states.to(weight.dtype) * weight).sum(dim=1) / weight.sum(dim=1)
    return functional.normalize(mean + projector(mean), dim=-1)
