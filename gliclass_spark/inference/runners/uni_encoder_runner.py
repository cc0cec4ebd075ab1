"""Runner of the uni-encoder: labels and text in one input."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from gliclass_spark.inference.context_window import max_input_tokens
from gliclass_spark.inference.device import ModelPrecision
from gliclass_spark.inference.kernels.fast_encoder import Int8Error, fast_encoder
from gliclass_spark.inference.kernels.replaced_weights import free_replaced_weights
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.prompts.prompt import Frame
from gliclass_spark.model.prompts.text_tokenizer import TextTokenizer
from gliclass_spark.model.prompts.uni_encoder_tokenizer import UniEncoderTokenizer


class UniEncoderRunner:
    """Encodes the labels again beside every text."""

    def __init__(self, model: UniEncoderModel, checkpoint: Checkpoint, precision: ModelPrecision) -> None:
        self.max_length = max_input_tokens(model.encoder_model)
        self.tokenizer: TextTokenizer = UniEncoderTokenizer(
            checkpoint.tokenizer, prompt_first=model.config.prompt_first, max_length=self.max_length
        )
        self._model = model
        if not model.config.needs_only_last_states and precision == "int8":
            raise Int8Error("the states of several layers are used, and they have no forward pass in 8-bit integers")
        self._encode = fast_encoder(model.encoder_model, precision) if model.config.needs_only_last_states else None

    def logits(self, input_ids: Tensor, attention_mask: Tensor, frames: Sequence[Frame], token_count: int) -> Tensor:
        """See `ModelRunner.logits`."""
        encode = self._encode and partial(self._encode, token_count=token_count)
        label_count = max(len(frame.labels) for frame in frames)
        logits: Tensor = self._model(input_ids, attention_mask, encode, label_count)
        return logits

    def free_replaced_weights(self) -> None:
        """See `ModelRunner.free_replaced_weights`."""
        free_replaced_weights(self._model.encoder_model, self._encode)
