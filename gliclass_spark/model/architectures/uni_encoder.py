"""The GLiClass uni-encoder: one encoder for labels and text together (arXiv 2508.07662, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gliclass_spark.model.architectures.published import PublishedModel
from gliclass_spark.model.configuration import UniEncoderConfig
from gliclass_spark.model.encoders.backbone import build_encoder
from gliclass_spark.model.encoders.encode import Encode, forward_pass
from gliclass_spark.model.heads.label_vectors import is_from_separator


class UniEncoderModel(PublishedModel):
    """Encoder, projections and scorer."""

    def __init__(self, config: UniEncoderConfig) -> None:
        super().__init__(config)
        self.config = config
        self.encoder_model = build_encoder(config.encoder_config, config.vocab_size)
        if config.use_segment_embeddings:
            self.segment_embeddings = nn.Embedding(3, config.encoder_config.hidden_size)

    @property
    def transformers(self) -> tuple[nn.Module, ...]:
        """The encoder."""
        return (self.encoder_model,)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        encode: Encode | None = None,
        label_count: int | None = None,
    ) -> Tensor:
        """Return logits (batch, labels) for token ids (batch, tokens), padded on the right.

        encode: a faster way to the encoder's last states; used where the model needs no others.
        label_count: labels of the row that has the most; None reads it from the device, which waits for the encoder.

        Rows may have different numbers of labels: `labels` is then the largest, and the columns behind a row's own
        labels are undefined.
        """
        states = self._to_head_dtype(self._encode(input_ids, attention_mask, encode))
        mask = attention_mask.to(states.dtype)
        text_states, pooling_mask, text_mask = self._text_states(states, mask, input_ids)
        labels = self._encode_labels(states, mask, input_ids, label_count)
        text = self._encode_text(text_states, pooling_mask)
        return self._logits(text, labels, text_mask, scaled=self.config.normalize_features)

    def _encode(self, input_ids: Tensor, attention_mask: Tensor, encode: Encode | None) -> Tensor:
        words = self._words_of_segments(input_ids) if self.config.use_segment_embeddings else None
        if self.config.needs_only_last_states:
            return (encode or forward_pass(self.encoder_model))(input_ids, attention_mask, words)
        inputs = {"input_ids": input_ids} if words is None else {"inputs_embeds": words}
        outputs = self.encoder_model(**inputs, attention_mask=attention_mask, output_hidden_states=True)
        states: Tensor = outputs.hidden_states[self.config.encoder_layer_id]
        return states

    def _words_of_segments(self, input_ids: Tensor) -> Tensor:
        words: Tensor = self.encoder_model.get_input_embeddings()(input_ids)
        segments: Tensor = self.segment_embeddings(self._segments(input_ids))
        return words + segments.to(words.dtype)

    def _segments(self, input_ids: Tensor) -> Tensor:
        """Return the segment of each token, (batch, tokens): 0 labels, 1 text.

        Examples are meant to be segment 2. The published weights were trained with every token of such an input as 2,
        so it is 2 here, too.
        """
        has_example = (input_ids == self.config.example_token_index).any(dim=1, keepdim=True)
        return is_from_separator(input_ids, self.config.text_token_index).long().masked_fill(has_example, 2)

    def _text_states(self, states: Tensor, mask: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the states to pool (batch, tokens, hidden), the mask for pooling and the mask of the text.

        With `extract_text_features` the text moves to the front, followed by zeros. Pooling includes those zeros, as
        the published one does, unless there is an LSTM: its output ends with the text. A scorer that takes tokens
        does not see them.
        """
        pooling_mask = text_mask = mask
        if self.config.extract_text_features:
            tokens = input_ids.shape[1]
            start = is_from_separator(input_ids, self.config.text_token_index).int().argmax(dim=1, keepdim=True)
            source = start + torch.arange(tokens, device=states.device)
            inside = (source < tokens).to(states.dtype)
            source = source.clamp(max=tokens - 1)
            text_mask = mask.gather(1, source) * inside
            states = states.gather(1, source.unsqueeze(-1).expand_as(states)) * text_mask.unsqueeze(-1)
        if self.config.use_lstm:
            states, pooling_mask = self.lstm(states, text_mask), text_mask
        return states, pooling_mask, text_mask
