"""The GLiClass encoder-decoders: one side for the text, the other one for the labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gliclass_spark.model.architectures.published import PublishedModel
from gliclass_spark.model.configuration import EncoderDecoderClsConfig, EncoderDecoderConfig
from gliclass_spark.model.encoders.backbone import build_encoder_decoder
from gliclass_spark.model.heads.pooling import POOLINGS


class EncoderDecoderModel(PublishedModel):
    """The encoder takes the text; the decoder takes the labels, which attend to the text and to each other."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__(config)
        self.config = config
        self.encoder_decoder_model = build_encoder_decoder(config.encoder_config)

    @property
    def transformers(self) -> tuple[nn.Module, ...]:
        """The encoder-decoder."""
        return (self.encoder_decoder_model,)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, label_ids: Tensor, label_mask: Tensor) -> Tensor:
        """Return logits (batch, labels) for token ids of texts and of their labels, (batch, tokens) each.

        Both are padded on the right. Rows may have different numbers of labels; the columns behind a row's own are
        undefined.
        """
        outputs = self.encoder_decoder_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=label_ids,
            decoder_attention_mask=self._bidirectional(label_mask),
            use_cache=False,
        )
        states = self._to_head_dtype(outputs.encoder_last_hidden_state)
        mask = attention_mask.to(states.dtype)
        if self.config.use_lstm:
            states = self.lstm(states, mask)
        label_states = self._to_head_dtype(outputs.last_hidden_state)
        labels = self._encode_labels(label_states, label_mask.to(label_states.dtype), label_ids)
        return self._logits(self._encode_text(states, mask), labels, mask, scaled=self.config.normalize_features)

    def _bidirectional(self, mask: Tensor) -> Tensor:
        """Return an additive attention mask (batch, 1, tokens, tokens) that replaces the decoder's causal one."""
        dtype = self.encoder_decoder_model.dtype
        added = (1 - mask.to(dtype)) * torch.finfo(dtype).min
        return added[:, None, None, :].expand(-1, 1, mask.shape[1], -1)


class EncoderDecoderClsModel(PublishedModel):
    """The encoder takes the labels; the decoder takes the text, and its last token's state is the text's vector."""

    def __init__(self, config: EncoderDecoderClsConfig) -> None:
        super().__init__(config)
        self.config = config
        self.encoder_decoder_model = build_encoder_decoder(config.encoder_config)

    @property
    def transformers(self) -> tuple[nn.Module, ...]:
        """The encoder-decoder."""
        return (self.encoder_decoder_model,)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, label_ids: Tensor, label_mask: Tensor) -> Tensor:
        """Return logits (batch, labels); see `EncoderDecoderModel.forward`."""
        outputs = self.encoder_decoder_model(
            input_ids=label_ids,
            attention_mask=label_mask,
            decoder_input_ids=input_ids,
            decoder_attention_mask=attention_mask,
            use_cache=False,
        )
        states = self._to_head_dtype(outputs.last_hidden_state)
        mask = attention_mask.to(states.dtype)
        label_states = self._to_head_dtype(outputs.encoder_last_hidden_state)
        labels = self._encode_labels(label_states, label_mask.to(label_states.dtype), label_ids)
        text = self._project_text(POOLINGS["last"](states, mask))
        return self._logits(text, labels, mask, scaled=self.config.normalize_features)
