"""GLiClass, the uni-encoder: one encoder reads labels and text together (arXiv 2508.07662, section 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import AutoModel
from transformers.activations import ACT2FN

from gliclass_spark.model.configuration import GLiClassConfig
from gliclass_spark.model.pooling import POOLINGS
from gliclass_spark.model.scoring import SCORERS

# Token ids and their mask, (batch, tokens), to the encoder's last states, (batch, tokens, hidden).
Encode = Callable[[Tensor, Tensor], Tensor]

# Keeps a zero vector finite when features are normalised; the value that the weights were trained with.
_NORM_EPSILON = 1e-8


class FeatureProjector(nn.Module):
    """Two linear layers between the encoder's states and the scorer."""

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__()
        encoder_size = config.encoder_config.hidden_size
        self.linear_1 = nn.Linear(encoder_size, config.hidden_size)
        self.act = ACT2FN[config.projector_hidden_act]
        self.dropout = nn.Dropout(config.dropout)
        self.linear_2 = nn.Linear(config.hidden_size, encoder_size)

    def forward(self, states: Tensor) -> Tensor:
        projected: Tensor = self.linear_2(self.dropout(self.act(self.linear_1(states))))
        return projected


class GLiClassModel(nn.Module):
    """Encoder, projections and scorer. Parameter names are those of the published checkpoints, less `model.`."""

    def __init__(self, config: GLiClassConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder_model = AutoModel.from_config(config.encoder_config, dtype=torch.float32)
        if self.encoder_model.config.vocab_size != config.vocab_size:
            self.encoder_model.resize_token_embeddings(config.vocab_size, mean_resizing=False)
        self.text_projector = FeatureProjector(config)
        self.classes_projector = FeatureProjector(config)
        self.scorer = SCORERS[config.scorer_type](
            config.hidden_size,
            num_heads=config.scorer_num_heads,
            mlp_hidden_size=config.scorer_mlp_hidden_size,
            attn_dropout=config.scorer_attn_dropout,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        if config.use_segment_embeddings:
            self.segment_embeddings = nn.Embedding(3, config.encoder_config.hidden_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, encode: Encode | None = None) -> Tensor:
        """Logits (batch, labels) for token ids (batch, tokens), padded on the right.

        `encode`, if given, stands in for the encoder and its embeddings: a faster way to the same states.

        Rows may ask different numbers of labels: `labels` is then the largest, and what stands behind
        a row's own labels means nothing. The head computes in its own precision whatever the encoder's.
        """
        states = (encode or self._encode)(input_ids, attention_mask).to(self.text_projector.linear_1.weight.dtype)
        mask = attention_mask.to(states.dtype)
        is_class = input_ids == self.config.class_token_index
        text_states, text_mask = self._text_states(states, mask, input_ids)
        pooled = POOLINGS[self.config.pooling_strategy](text_states, mask)
        text = self._normalise(self.dropout(self.text_projector(pooled)))
        labels = self._normalise(self.classes_projector(self._class_states(states, mask, is_class, input_ids)))
        logits: Tensor = self.scorer(text, labels, text_mask)
        return logits * self.logit_scale if self.config.normalize_features else logits

    def _encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        if self.config.use_segment_embeddings:
            segments = _from_text_on(input_ids, self.config.text_token_index).long()
            words = self.encoder_model.get_input_embeddings()(input_ids)
            embedded = words + self.segment_embeddings(segments).to(words.dtype)
            outputs = self.encoder_model(inputs_embeds=embedded, attention_mask=attention_mask)
        else:
            outputs = self.encoder_model(input_ids=input_ids, attention_mask=attention_mask)
        states: Tensor = outputs.last_hidden_state
        return states

    def _text_states(self, states: Tensor, mask: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the pooling reads, (batch, tokens, hidden), and which of it is text, (batch, tokens).

        With `extract_text_features` the text moves to the front and zeros follow it. Poolings count
        those zeros as the published ones do; a scorer that reads tokens does not see them.
        """
        if not self.config.extract_text_features:
            return states, mask
        tokens = input_ids.shape[1]
        start = _from_text_on(input_ids, self.config.text_token_index).int().argmax(dim=1, keepdim=True)
        source = start + torch.arange(tokens, device=states.device)
        inside = (source < tokens).to(states.dtype)
        source = source.clamp(max=tokens - 1)
        text_mask = mask.gather(1, source) * inside
        moved = states.gather(1, source.unsqueeze(-1).expand_as(states))
        return moved * text_mask.unsqueeze(-1), text_mask

    def _class_states(self, states: Tensor, mask: Tensor, is_class: Tensor, input_ids: Tensor) -> Tensor:
        """One vector for each label, (batch, labels, hidden)."""
        rank = is_class.cumsum(dim=1)  # which label a token stands in: 1, 2, ...; 0 before the first
        label_count = int(rank[:, -1].max())
        if self.config.class_token_pooling == "first":
            rows, columns = is_class.nonzero(as_tuple=True)
            positions = columns.new_zeros(states.shape[0], label_count)
            positions[rows, rank[rows, columns] - 1] = columns if self.config.embed_class_token else columns + 1
            return states.gather(1, positions.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
        span = mask
        if self.config.extract_text_features:
            span = span * ~_from_text_on(input_ids, self.config.text_token_index)
        # Without it the last label's span runs through the separator and the text to the end of the
        # input: so the published weights were trained, and so they must be asked.
        if not self.config.embed_class_token:
            span = span * ~is_class
        numbers = torch.arange(1, label_count + 1, device=states.device)
        member = (rank.unsqueeze(1) == numbers[:, None]) * span.unsqueeze(1)
        return torch.bmm(member, states) / member.sum(dim=2, keepdim=True).clamp(min=1)

    def _normalise(self, features: Tensor) -> Tensor:
        if not self.config.normalize_features:
            return features
        length: Tensor = features.norm(p=2, dim=-1, keepdim=True)
        return features / (length + _NORM_EPSILON)


def _from_text_on(input_ids: Tensor, text_token_index: int) -> Tensor:
    """True from the text's separator on, (batch, tokens). Every prompt holds one."""
    return (input_ids == text_token_index).cumsum(dim=1) > 0
