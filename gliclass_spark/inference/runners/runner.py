"""Model runners: each architecture behind one interface, for the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from gliclass_spark.inference.device import ModelPrecision, float_dtype
from gliclass_spark.inference.kernels.fast_encoder import Int8Error
from gliclass_spark.inference.runners.bi_encoder_runner import BiEncoderRunner
from gliclass_spark.inference.runners.encoder_decoder_runner import EncoderDecoderRunner
from gliclass_spark.inference.runners.label_cached_runner import LabelCachedRunner
from gliclass_spark.inference.runners.uni_encoder_runner import UniEncoderRunner
from gliclass_spark.model.architectures.bi_encoder import BiEncoderModel
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.prompts.prompt import Frame
from gliclass_spark.model.prompts.text_tokenizer import TextTokenizer


class ModelRunner(Protocol):
    """A model on its device, with the tokenizer that builds its inputs.

    max_length: tokens of one input at most, special tokens included.
    """

    tokenizer: TextTokenizer
    max_length: int

    def logits(self, input_ids: Tensor, attention_mask: Tensor, frames: Sequence[Frame], token_count: int) -> Tensor:
        """Return logits (inputs, labels) for token ids and their mask, (inputs, tokens) each, padded on the right.

        frames: the frame of each input, which lists its labels. The number of columns is that of the frame with
        the most labels; the columns behind an input's own labels are undefined.
        token_count: the sum of the mask. With it, the published encoders on a GPU run without waiting for it.
        """

    def free_replaced_weights(self) -> None:
        """Free the weights of which a fast pass holds copies, for a model that nobody else uses."""


def runner_for(checkpoint: Checkpoint, device: torch.device, precision: ModelPrecision) -> ModelRunner:
    """Move the checkpoint's model to the device, its transformers in this precision, and return its runner.

    The heads stay in float32: they cost next to nothing, and the scores are rounded once less. Raises Int8Error for a
    model that can't be computed in 8-bit integers.
    """
    model = checkpoint.model.to(device)
    for transformer in model.transformers:
        transformer.to(float_dtype(precision))
    if isinstance(model, LabelCachedModel):
        return LabelCachedRunner(model, checkpoint, device, precision)
    if isinstance(model, UniEncoderModel):
        return UniEncoderRunner(model, checkpoint, precision)
    if isinstance(model, BiEncoderModel):
        return BiEncoderRunner(model, checkpoint, device, precision)
    if precision == "int8":
        raise Int8Error(f"{type(model).__name__} has no forward pass in 8-bit integers")
    return EncoderDecoderRunner(model, checkpoint, device)
