"""Runner of the encoder-decoders: text and labels are two inputs of one model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gliclass_spark.inference.context_window import max_input_tokens
from gliclass_spark.inference.padding import pad
from gliclass_spark.model.architectures.encoder_decoder import EncoderDecoderClsModel, EncoderDecoderModel
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.prompts.encoder_decoder_tokenizer import EncoderDecoderTokenizer
from gliclass_spark.model.prompts.prompt import Frame
from gliclass_spark.model.prompts.text_tokenizer import TextTokenizer


class EncoderDecoderRunner:
    """Gives the text to one side of the model and the labels to the other."""

    def __init__(
        self, model: EncoderDecoderModel | EncoderDecoderClsModel, checkpoint: Checkpoint, device: torch.device
    ) -> None:
        self.max_length = max_input_tokens(model.encoder_decoder_model)
        self.tokenizer: TextTokenizer = EncoderDecoderTokenizer(
            checkpoint.tokenizer, prompt_first=False, max_length=self.max_length
        )
        self._model = model
        self._pad_id = checkpoint.tokenizer.pad_token_id or 0
        self._device = device

    def logits(self, input_ids: Tensor, attention_mask: Tensor, frames: Sequence[Frame], token_count: int) -> Tensor:
        """See `ModelRunner.logits`."""
        longest = max(len(frame.label_ids) for frame in frames)
        label_ids, label_mask = pad([frame.label_ids for frame in frames], longest, self._pad_id, self._device)
        logits: Tensor = self._model(input_ids, attention_mask, label_ids, label_mask)
        return logits

    def free_replaced_weights(self) -> None:
        """See `ModelRunner.free_replaced_weights`; it has no fast pass."""
