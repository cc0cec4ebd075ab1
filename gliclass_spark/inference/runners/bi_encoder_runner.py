"""Runner of the bi-encoders: labels are encoded once, by an encoder of their own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gliclass_spark.inference.context_window import max_input_tokens
from gliclass_spark.inference.device import ModelPrecision
from gliclass_spark.inference.kernels.fast_encoder import fast_encoder
from gliclass_spark.inference.kernels.replaced_weights import free_replaced_weights
from gliclass_spark.inference.runners.label_cache import LabelCache
from gliclass_spark.model.architectures.bi_encoder import BiEncoderModel, FusedBiEncoderModel
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.heads.label_vectors import LabelVectors
from gliclass_spark.model.prompts.bi_encoder_tokenizer import BiEncoderTokenizer, FusedBiEncoderTokenizer
from gliclass_spark.model.prompts.label_cached_tokenizer import LabelCachedTokenizer
from gliclass_spark.model.prompts.prompt import Frame
from gliclass_spark.model.prompts.text_tokenizer import TextTokenizer


class BiEncoderRunner:
    """Encodes texts, and scores them against cached label vectors; runs the fused bi-encoder, too."""

    def __init__(
        self, model: BiEncoderModel, checkpoint: Checkpoint, device: torch.device, precision: ModelPrecision
    ) -> None:
        self.max_length = max_input_tokens(model.encoder_model)
        hf_label_tokenizer = checkpoint.label_tokenizer or checkpoint.tokenizer
        label_tokenizer = LabelCachedTokenizer(hf_label_tokenizer, max_input_tokens(model.label_encoder))
        self.tokenizer: TextTokenizer
        if isinstance(model, FusedBiEncoderModel):
            self.tokenizer = FusedBiEncoderTokenizer(
                checkpoint.tokenizer,
                label_tokenizer,
                prompt_first=model.config.prompt_first,
                max_length=self.max_length,
            )
        else:
            self.tokenizer = BiEncoderTokenizer(checkpoint.tokenizer, label_tokenizer, self.max_length)
        self._model = model
        self._encode = fast_encoder(model.encoder_model, precision)
        self._encode_label = fast_encoder(model.label_encoder, precision)
        self._label_cache = LabelCache(label_tokenizer.label_ids, self._encode_labels, hf_label_tokenizer, device)

    def logits(self, input_ids: Tensor, attention_mask: Tensor, frames: Sequence[Frame], token_count: int) -> Tensor:
        """See `ModelRunner.logits`."""
        encode = self._encode and partial(self._encode, token_count=token_count)
        logits: Tensor = self._model(input_ids, attention_mask, self._label_vectors(frames), encode)
        return logits

    def free_replaced_weights(self) -> None:
        """See `ModelRunner.free_replaced_weights`."""
        free_replaced_weights(self._model.encoder_model, self._encode)
        free_replaced_weights(self._model.label_encoder, self._encode_label)

    def _encode_labels(self, input_ids: Tensor, attention_mask: Tensor, token_count: int) -> Tensor:
        encode = self._encode_label and partial(self._encode_label, token_count=token_count)
        return self._model.label_vectors(input_ids, attention_mask, encode=encode)

    def _label_vectors(self, frames: Sequence[Frame]) -> LabelVectors:
        first = frames[0].label_texts
        if all(frame.label_texts is first for frame in frames):
            row = torch.stack(self._label_cache.states(first))
            present = row.new_ones(len(frames), len(row), dtype=torch.bool)
            return LabelVectors(row.expand(len(frames), -1, -1), present)
        rows = [torch.stack(self._label_cache.states(frame.label_texts)) for frame in frames]
        present = pad_sequence([row.new_ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
        return LabelVectors(pad_sequence(rows, batch_first=True), present)
