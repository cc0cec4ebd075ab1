"""GLiClass, the bi-encoders: labels have an encoder of their own, and are read once whatever the texts are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gliclass_spark.model.architectures.published import PublishedModel
from gliclass_spark.model.configuration import BiEncoderConfig
from gliclass_spark.model.encoders.backbone import build_encoder
from gliclass_spark.model.heads.label_vectors import LabelVectors
from gliclass_spark.model.heads.layers import Projector
from gliclass_spark.model.heads.pooling import POOLINGS


class BiEncoderModel(PublishedModel):
    """Texts and labels meet in the scorer alone."""

    def __init__(self, config: BiEncoderConfig) -> None:
        super().__init__(config)
        self.config = config
        self.encoder_model = build_encoder(config.encoder_config, config.vocab_size)
        labels = config.label_model_config
        self.label_encoder = build_encoder(labels, labels.vocab_size)
        self.biencoder_projector = Projector(
            labels.hidden_size,
            config.hidden_size,
            config.encoder_config.hidden_size,
            config.projector_hidden_act,
            dropout=0.0,
        )

    @property
    def transformers(self) -> tuple[nn.Module, ...]:
        return self.encoder_model, self.label_encoder

    def label_vectors(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What to remember of labels: (labels, hidden), for token ids (labels, tokens), padded on the right."""
        outputs = self.label_encoder(input_ids=input_ids, attention_mask=attention_mask)
        states = self._own(outputs.last_hidden_state)
        pooled = POOLINGS[self.config.pooling_strategy](states, attention_mask.to(states.dtype))
        return self._projected_labels(self.biencoder_projector(pooled))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: LabelVectors) -> Tensor:
        """Logits (batch, labels) for token ids (batch, tokens), padded on the right.

        Rows may ask different numbers of labels; what stands behind a row's own means nothing.
        """
        states = self._own(self.encoder_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state)
        mask = attention_mask.to(states.dtype)
        return self._logits(self._text(states, mask), labels, mask, scaled=True)


class FusedBiEncoderModel(BiEncoderModel):
    """The labels' vectors stand before each text as if they were words, and the text's encoder reads them with it."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: LabelVectors) -> Tensor:
        """As a bi-encoder's. Each row of `input_ids` holds as many label tokens as it asks labels."""
        is_class = input_ids == self.config.class_token_index
        words = self.encoder_model.get_input_embeddings()(input_ids)
        asked = labels.vectors[labels.present].to(words.dtype)
        outputs = self.encoder_model(
            inputs_embeds=words.masked_scatter(is_class.unsqueeze(-1), asked), attention_mask=attention_mask
        )
        states = self._own(outputs.last_hidden_state)
        mask = attention_mask.to(states.dtype)
        read = torch.zeros_like(labels.vectors).masked_scatter(labels.present.unsqueeze(-1), states[is_class])
        return self._logits(self._text(states, mask), LabelVectors(read, labels.present), mask, scaled=True)
