"""GLiClass over an encoder and a decoder: one reads the text, the other one the labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gliclass_spark.model.architectures.published import PublishedModel
from gliclass_spark.model.configuration import EncoderDecoderClsConfig, EncoderDecoderConfig
from gliclass_spark.model.encoders.backbone import build_encoder_decoder
from gliclass_spark.model.heads.pooling import POOLINGS


class EncoderDecoderModel(PublishedModel):
    """The encoder reads the text; the decoder reads the labels, which see the text and, both ways, each other."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__(config)
        self.config = config
        self.encoder_decoder_model = build_encoder_decoder(config.encoder_config)

    @property
    def transformers(self) -> tuple[nn.Module, ...]:
        return (self.encoder_decoder_model,)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, label_ids: Tensor, label_mask: Tensor) -> Tensor:
        """Logits (batch, labels) for token ids of texts and of what asks for labels, (batch, tokens) each.

        Both are padded on the right. Rows may ask different numbers of labels; what stands behind a
        row's own means nothing.
        """
        outputs = self.encoder_decoder_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=label_ids,
            decoder_attention_mask=self._both_ways(label_mask),
            use_cache=False,
        )
        states = self._own(outputs.encoder_last_hidden_state)
        mask = attention_mask.to(states.dtype)
        if self.config.use_lstm:
            states = self.lstm(states, mask)
        labels = self._labels(self._own(outputs.last_hidden_state), label_mask.to(states.dtype), label_ids)
        return self._logits(self._text(states, mask), labels, mask, scaled=self.config.normalize_features)

    def _both_ways(self, mask: Tensor) -> Tensor:
        """What is added where tokens attend to others, (batch, 1, tokens, tokens): by itself, a decoder is causal."""
        dtype = self.encoder_decoder_model.dtype
        added = (1 - mask.to(dtype)) * torch.finfo(dtype).min
        return added[:, None, None, :].expand(-1, 1, mask.shape[1], -1)


class EncoderDecoderClsModel(PublishedModel):
    """The encoder reads the labels; the decoder reads the text, whose last token's state speaks for it."""

    def __init__(self, config: EncoderDecoderClsConfig) -> None:
        super().__init__(config)
        self.config = config
        self.encoder_decoder_model = build_encoder_decoder(config.encoder_config)

    @property
    def transformers(self) -> tuple[nn.Module, ...]:
        return (self.encoder_decoder_model,)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, label_ids: Tensor, label_mask: Tensor) -> Tensor:
        """As an EncoderDecoderModel's."""
        outputs = self.encoder_decoder_model(
            input_ids=label_ids,
            attention_mask=label_mask,
            decoder_input_ids=input_ids,
            decoder_attention_mask=attention_mask,
            use_cache=False,
        )
        states = self._own(outputs.last_hidden_state)
        mask = attention_mask.to(states.dtype)
        labels = self._labels(self._own(outputs.encoder_last_hidden_state), label_mask.to(states.dtype), label_ids)
        text = self._projected_text(POOLINGS["last"](states, mask))
        return self._logits(text, labels, mask, scaled=self.config.normalize_features)
