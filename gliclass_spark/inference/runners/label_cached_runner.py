"""Runner of the label-cached model: each label is encoded once, alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gliclass_spark.inference.context_window import max_input_tokens
from gliclass_spark.inference.device import ModelPrecision
from gliclass_spark.inference.kernels.fast_encoder import Int8Error, fast_bert
from gliclass_spark.inference.kernels.replaced_weights import free_replaced_weights
from gliclass_spark.inference.padding import to_device
from gliclass_spark.inference.runners.label_cache import LabelCache
from gliclass_spark.model.architectures.label_cached import LabelCachedModel, LabelStates
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.prompts.label_cached_tokenizer import LabelCachedTokenizer
from gliclass_spark.model.prompts.prompt import Frame
from gliclass_spark.model.prompts.text_tokenizer import TextTokenizer

_CACHED_LABEL_SETS = 8


class LabelCachedRunner:
    """Encodes texts alone and scores them against cached label states."""

    def __init__(
        self, model: LabelCachedModel, checkpoint: Checkpoint, device: torch.device, precision: ModelPrecision
    ) -> None:
        self.max_length = max_input_tokens(model.encoder_model)
        tokenizer = LabelCachedTokenizer(checkpoint.tokenizer, self.max_length)
        self.tokenizer: TextTokenizer = tokenizer
        self._model = model
        self._bert = fast_bert(model.encoder_model, precision)
        if self._bert is None and precision == "int8":
            raise Int8Error(
                f"with cached labels {type(model.encoder_model).__name__} has no forward pass in 8-bit integers"
            )
        self._label_cache = LabelCache(tokenizer.label_ids, self._encode_labels, checkpoint.tokenizer, device)
        self._label_set_states = lru_cache(maxsize=_CACHED_LABEL_SETS)(self._label_states)

    def logits(self, input_ids: Tensor, attention_mask: Tensor, frames: Sequence[Frame], token_count: int) -> Tensor:
        """See `ModelRunner.logits`."""
        label_sets = [frame.label_texts for frame in frames]
        if all(labels is label_sets[0] for labels in label_sets):
            return self._score(input_ids, attention_mask, self._label_set_states(label_sets[0]), token_count)
        if self._model.config.text_reads_labels:
            # Attending to another text's labels would change a text's scores: one row at a time.
            rows = [
                self._score(input_ids[row : row + 1], attention_mask[row : row + 1], self._label_set_states(labels))[0]
                for row, labels in enumerate(label_sets)
            ]
            return pad_sequence(rows, batch_first=True)
        columns = {label: column for column, label in enumerate(dict.fromkeys(chain.from_iterable(label_sets)))}
        logits = self._score(input_ids, attention_mask, self._label_states(tuple(columns)), token_count)
        row_columns = [torch.tensor([columns[label] for label in labels]) for labels in label_sets]
        return logits.gather(1, to_device(pad_sequence(row_columns, batch_first=True), logits.device))

    def free_replaced_weights(self) -> None:
        """See `ModelRunner.free_replaced_weights`."""
        free_replaced_weights(self._model.encoder_model, self._bert)

    def _score(
        self, input_ids: Tensor, attention_mask: Tensor, labels: LabelStates, token_count: int | None = None
    ) -> Tensor:
        """Return logits (texts, labels), every text against the same labels."""
        logits: Tensor = self._model(input_ids, attention_mask, labels, self._bert, token_count)
        return logits

    def _encode_labels(self, input_ids: Tensor, attention_mask: Tensor, token_count: int) -> LabelStates:
        return self._model.label_states(input_ids, attention_mask, self._bert, token_count)

    def _label_states(self, label_texts: tuple[str, ...]) -> LabelStates:
        return LabelStates.concatenate(self._label_cache.states(label_texts))
