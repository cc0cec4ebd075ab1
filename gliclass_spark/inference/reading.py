"""How the engine asks a model: labels beside every text, or labels read once and remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from gliclass_spark.inference.batching import micro_batches
from gliclass_spark.inference.packed_bert import packed_bert
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.label_cached import LabelCachedModel, LabelCachedTokenizer, LabelStates
from gliclass_spark.model.modeling import GLiClassModel
from gliclass_spark.model.prompt import PromptBuilder
from gliclass_spark.model.text_tokenizer import TextTokenizer

_DEFAULT_WINDOW = 512
# With an encoder of the embedded model's size 25 MB, or 300 MB where texts read the labels in every layer.
_REMEMBERED_LABELS = 16_384
_REMEMBERED_SETS = 8
_LABEL_BATCH_TOKENS = 4096


class Reading(Protocol):
    """A model on its device, ready to be asked."""

    tokenizer: TextTokenizer
    max_length: int

    def logits(self, input_ids: Tensor, attention_mask: Tensor, label_set: LabelSet) -> Tensor:
        """(texts, labels) for token ids (texts, tokens), padded on the right."""


def reading(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Reading:
    """Moves the model to the device, its encoder in this precision.

    The heads stay in float32: they cost next to nothing, and the scores are rounded once less.
    """
    model = checkpoint.model.to(device)
    model.encoder_model.to(dtype)
    if isinstance(model, LabelCachedModel):
        return _LabelCached(model, checkpoint, device)
    return _Joint(model, checkpoint)


class _Joint:
    """Labels stand beside every text."""

    def __init__(self, model: GLiClassModel, checkpoint: Checkpoint) -> None:
        self.max_length = _window(model.encoder_model)
        self.tokenizer: TextTokenizer = PromptBuilder(
            checkpoint.tokenizer, prompt_first=model.config.prompt_first, max_length=self.max_length
        )
        self._model = model
        self._encode = None if model.config.use_segment_embeddings else packed_bert(model.encoder_model)

    def logits(self, input_ids: Tensor, attention_mask: Tensor, label_set: LabelSet) -> Tensor:
        found: Tensor = self._model(input_ids, attention_mask, self._encode)
        return found


class _LabelCached:
    """Each label is read once, and remembered for as long as this lives: the longest unused is forgotten."""

    def __init__(self, model: LabelCachedModel, checkpoint: Checkpoint, device: torch.device) -> None:
        self.max_length = _window(model.encoder_model)
        self._labels = LabelCachedTokenizer(checkpoint.tokenizer, self.max_length)
        self.tokenizer: TextTokenizer = self._labels
        self._model = model
        self._bert = packed_bert(model.encoder_model)
        self._pad_id = checkpoint.tokenizer.pad_token_id or 0
        self._device = device
        self._remembered: OrderedDict[str, LabelStates] = OrderedDict()
        self._states = lru_cache(maxsize=_REMEMBERED_SETS)(self._states_of)

    def logits(self, input_ids: Tensor, attention_mask: Tensor, label_set: LabelSet) -> Tensor:
        found: Tensor = self._model(input_ids, attention_mask, self._states(label_set.texts), self._bert)
        return found

    def _states_of(self, texts: tuple[str, ...]) -> LabelStates:
        unread = [text for text in dict.fromkeys(texts) if text not in self._remembered]
        inputs = [self._labels.label_ids(text) for text in unread]
        for batch in micro_batches([len(ids) for ids in inputs], _LABEL_BATCH_TOKENS):
            input_ids, mask = padded([inputs[row] for row in batch.positions], batch.tokens, self._pad_id, self._device)
            states = self._model.label_states(input_ids, mask, self._bert)
            for number, row in enumerate(batch.positions):
                self._remembered[unread[row]] = states[number]
        for text in texts:
            self._remembered.move_to_end(text)
        found = LabelStates.joined([self._remembered[text] for text in texts])
        while len(self._remembered) > _REMEMBERED_LABELS:
            self._remembered.popitem(last=False)
        return found


def padded(inputs: Sequence[Sequence[int]], tokens: int, pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, (inputs, tokens) each, padded on the right."""
    input_ids = np.full((len(inputs), tokens), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(inputs), tokens), dtype=np.int64)
    for row, ids in enumerate(inputs):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    return _on_device(input_ids, device), _on_device(attention_mask, device)


def _on_device(array: NDArray[np.int64], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    # From pinned memory the copy goes on while the model's first steps are launched.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _window(encoder: PreTrainedModel) -> int:
    """The tokens that an encoder reads at once."""
    positions = int(getattr(encoder.config, "max_position_embeddings", 0) or _DEFAULT_WINDOW)
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    # RoBERTa and its kin count positions from behind the padding token's.
    unused = getattr(table, "padding_idx", None)
    return positions if unused is None else positions - unused - 1
