"""How the engine asks a model: labels beside every text, or labels read once and remembered."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gliclass_spark.inference.context_window import max_input_tokens
from gliclass_spark.inference.kernels.packed_bert import packed_bert
from gliclass_spark.inference.runners.bi_encoder_runner import BiEncoderRunner
from gliclass_spark.inference.runners.encoder_decoder_runner import EncoderDecoderRunner
from gliclass_spark.inference.runners.label_cache import LabelCache
from gliclass_spark.model.architectures.bi_encoder import BiEncoderModel
from gliclass_spark.model.architectures.label_cached import LabelCachedModel, LabelCachedTokenizer, LabelStates
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.prompts.text_tokenizer import Frame, TextTokenizer
from gliclass_spark.model.prompts.uni_encoder_prompt import UniEncoderTokenizer

_REMEMBERED_SETS = 8


class ModelRunner(Protocol):
    """A model on its device, ready to be asked."""

    tokenizer: TextTokenizer
    max_length: int

    def logits(self, input_ids: Tensor, attention_mask: Tensor, frames: Sequence[Frame]) -> Tensor:
        """(inputs, most labels) for token ids (inputs, tokens), padded on the right.

        frames: what stands around the text in each input, and asks. What stands behind an input's own
        labels means nothing.
        """


def runner_for(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> ModelRunner:
    """Moves the model to the device, its transformers in this precision.

    The heads stay in float32: they cost next to nothing, and the scores are rounded once less.
    """
    model = checkpoint.model.to(device)
    for part in model.transformers:
        part.to(dtype)
    if isinstance(model, LabelCachedModel):
        return LabelCachedRunner(model, checkpoint, device)
    if isinstance(model, BiEncoderModel):
        return BiEncoderRunner(model, checkpoint, device)
    if isinstance(model, UniEncoderModel):
        return UniEncoderRunner(model, checkpoint)
    return EncoderDecoderRunner(model, checkpoint, device)


class UniEncoderRunner:
    """Labels stand beside every text."""

    def __init__(self, model: UniEncoderModel, checkpoint: Checkpoint) -> None:
        self.max_length = max_input_tokens(model.encoder_model)
        self.tokenizer: TextTokenizer = UniEncoderTokenizer(
            checkpoint.tokenizer, prompt_first=model.config.prompt_first, max_length=self.max_length
        )
        self._model = model
        self._encode = packed_bert(model.encoder_model) if model.config.reads_last_states_alone else None

    def logits(self, input_ids: Tensor, attention_mask: Tensor, frames: Sequence[Frame]) -> Tensor:
        found: Tensor = self._model(input_ids, attention_mask, self._encode)
        return found


class LabelCachedRunner:
    """Labels are read once."""

    def __init__(self, model: LabelCachedModel, checkpoint: Checkpoint, device: torch.device) -> None:
        self.max_length = max_input_tokens(model.encoder_model)
        labels = LabelCachedTokenizer(checkpoint.tokenizer, self.max_length)
        self.tokenizer: TextTokenizer = labels
        self._model = model
        self._bert = packed_bert(model.encoder_model)
        self._remembered = LabelCache(labels.label_ids, self._read, checkpoint.tokenizer, device)
        self._states = lru_cache(maxsize=_REMEMBERED_SETS)(self._states_of)

    def logits(self, input_ids: Tensor, attention_mask: Tensor, frames: Sequence[Frame]) -> Tensor:
        asked = [frame.texts for frame in frames]
        if all(labels is asked[0] for labels in asked):
            return self._of_one_set(input_ids, attention_mask, self._states(asked[0]))
        if self._model.config.text_reads_labels:
            # What a text reads of labels that it is not asked for would change its scores.
            rows = [
                self._of_one_set(input_ids[row : row + 1], attention_mask[row : row + 1], self._states(labels))[0]
                for row, labels in enumerate(asked)
            ]
            return pad_sequence(rows, batch_first=True)
        places = {label: place for place, label in enumerate(dict.fromkeys(chain.from_iterable(asked)))}
        logits = self._of_one_set(input_ids, attention_mask, self._states_of(tuple(places)))
        columns = [torch.tensor([places[label] for label in labels]) for labels in asked]
        return logits.gather(1, pad_sequence(columns, batch_first=True).to(logits.device))

    def _of_one_set(self, input_ids: Tensor, attention_mask: Tensor, labels: LabelStates) -> Tensor:
        found: Tensor = self._model(input_ids, attention_mask, labels, self._bert)
        return found

    def _read(self, input_ids: Tensor, attention_mask: Tensor) -> LabelStates:
        return self._model.label_states(input_ids, attention_mask, self._bert)

    def _states_of(self, texts: tuple[str, ...]) -> LabelStates:
        return LabelStates.joined(self._remembered.of(texts))
