"""The GLiClass bi-encoders: labels have an encoder of their own and don't depend on the text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gliclass_spark.model.architectures.published import PublishedModel
from gliclass_spark.model.configuration import BiEncoderConfig
from gliclass_spark.model.encoders.backbone import build_encoder
from gliclass_spark.model.encoders.encode import Encode, forward_pass
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
        """The encoders of texts and of labels."""
        return self.encoder_model, self.label_encoder

    def label_vectors(self, input_ids: Tensor, attention_mask: Tensor, encode: Encode | None = None) -> Tensor:
        """Return label vectors (labels, hidden) for token ids (labels, tokens), padded on the right.

        encode: a faster way to the label encoder's last states.
        """
        states = self._to_head_dtype((encode or forward_pass(self.label_encoder))(input_ids, attention_mask))
        pooled = POOLINGS[self.config.pooling_strategy](states, attention_mask.to(states.dtype))
        return self._project_labels(self.biencoder_projector(pooled))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: LabelVectors, encode: Encode | None = None
    ) -> Tensor:
        """Return logits (batch, labels) for token ids (batch, tokens), padded on the right.

        encode: a faster way to the text encoder's last states.

        Rows may have different numbers of labels; the columns behind a row's own are undefined.
        """
        states = self._to_head_dtype((encode or forward_pass(self.encoder_model))(input_ids, attention_mask))
        mask = attention_mask.to(states.dtype)
        return self._logits(self._encode_text(states, mask), labels, mask, scaled=True)


class FusedBiEncoderModel(BiEncoderModel):
    """The label vectors replace the embeddings of the label tokens in each text's input, and are encoded with it."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: LabelVectors, encode: Encode | None = None
    ) -> Tensor:
        """Return logits (batch, labels), as the bi-encoder does.

        Each row of `input_ids` holds as many label tokens as it has labels.
        """
        is_class = input_ids == self.config.class_token_index
        words = self.encoder_model.get_input_embeddings()(input_ids)
        label_words = labels.vectors[labels.present].to(words.dtype)
        words = words.masked_scatter(is_class.unsqueeze(-1), label_words)
        states = self._to_head_dtype((encode or forward_pass(self.encoder_model))(input_ids, attention_mask, words))
        mask = attention_mask.to(states.dtype)
        vectors = torch.zeros_like(labels.vectors).masked_scatter(labels.present.unsqueeze(-1), states[is_class])
        return self._logits(self._encode_text(states, mask), LabelVectors(vectors, labels.present), mask, scaled=True)
