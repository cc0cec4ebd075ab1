"""How the engine asks a bi-encoder: its labels are read once, whatever the texts are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gliclass_spark.inference.context_window import max_input_tokens
from gliclass_spark.inference.runners.label_cache import LabelCache
from gliclass_spark.model.architectures.bi_encoder import BiEncoderModel, FusedBiEncoderModel
from gliclass_spark.model.architectures.label_cached import LabelCachedTokenizer
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.heads.label_vectors import LabelVectors
from gliclass_spark.model.prompts.bi_encoder_prompt import BiEncoderTokenizer, FusedBiEncoderTokenizer
from gliclass_spark.model.prompts.text_tokenizer import Frame, TextTokenizer


class BiEncoderRunner:
    def __init__(self, model: BiEncoderModel, checkpoint: Checkpoint, device: torch.device) -> None:
        self.max_length = max_input_tokens(model.encoder_model)
        label_tokenizer = checkpoint.label_tokenizer or checkpoint.tokenizer
        labels = LabelCachedTokenizer(label_tokenizer, max_input_tokens(model.label_encoder))
        self.tokenizer: TextTokenizer
        if isinstance(model, FusedBiEncoderModel):
            self.tokenizer = FusedBiEncoderTokenizer(
                checkpoint.tokenizer, labels, prompt_first=model.config.prompt_first, max_length=self.max_length
            )
        else:
            self.tokenizer = BiEncoderTokenizer(checkpoint.tokenizer, labels, self.max_length)
        self._model = model
        self._labels = LabelCache(labels.label_ids, model.label_vectors, label_tokenizer, device)

    def logits(self, input_ids: Tensor, attention_mask: Tensor, frames: Sequence[Frame]) -> Tensor:
        rows = [torch.stack(self._labels.of(frame.texts)) for frame in frames]
        present = pad_sequence([row.new_ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
        labels = LabelVectors(pad_sequence(rows, batch_first=True), present)
        found: Tensor = self._model(input_ids, attention_mask, labels)
        return found
