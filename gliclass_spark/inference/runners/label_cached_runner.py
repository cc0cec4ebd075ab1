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
from gliclass_spark.inference.padding import padded_batches, to_device
from gliclass_spark.inference.runners.label_cache import LabelCache
from gliclass_spark.inference.runners.prototypes import with_prototypes
from gliclass_spark.model.architectures.label_cached import LabelCachedModel, LabelStates
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.prompts.label_cached_tokenizer import LabelCachedTokenizer
from gliclass_spark.model.prompts.prompt import Frame
from gliclass_spark.model.prompts.text_tokenizer import TextTokenizer

_CACHED_LABEL_SETS = 8
_MAX_BATCH_TOKENS = 4096


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
        self._device = device
        self._pad_id = checkpoint.tokenizer.pad_token_id or 0
        self._label_cache = LabelCache(tokenizer.label_ids, self._encode_labels, checkpoint.tokenizer, device)
        self._cached_frame_states = lru_cache(maxsize=_CACHED_LABEL_SETS)(self._frame_states)

    def logits(self, input_ids: Tensor, attention_mask: Tensor, frames: Sequence[Frame], token_count: int) -> Tensor:
        """See `ModelRunner.logits`."""
        first = frames[0]
        if all(frame is first for frame in frames):
            return self._score(input_ids, attention_mask, self._cached_frame_states(first), token_count)
        if self._model.config.text_reads_labels:
            # Attending to another text's labels would change a text's scores: one row at a time.
            inputs = zip(input_ids, attention_mask, map(self._cached_frame_states, frames), strict=True)
            rows = [self._score(ids[None], mask[None], states)[0] for ids, mask, states in inputs]
            return pad_sequence(rows, batch_first=True)
        states, columns = self._shared_states(frames)
        logits = self._score(input_ids, attention_mask, states, token_count)
        return logits.gather(1, to_device(pad_sequence(columns, batch_first=True), logits.device))

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

    def _frame_states(self, frame: Frame) -> LabelStates:
        labels = LabelStates.concatenate(self._label_cache.states(frame.label_texts))
        if not frame.examples:
            return labels
        has_label = torch.zeros(len(frame.examples), len(frame.labels), dtype=torch.bool)
        for row, example in enumerate(frame.examples):
            has_label[row, list(example.labels)] = True
        return with_prototypes(labels, self._example_vectors(frame, labels), has_label, float(self._model.logit_scale))

    def _example_vectors(self, frame: Frame, labels: LabelStates) -> Tensor:
        """Return the vectors of a frame's examples, (examples, hidden)."""
        vectors = torch.empty(len(frame.examples), labels.vectors.shape[1], device=self._device)
        inputs = [example.input_ids for example in frame.examples]
        batches = padded_batches(inputs, _MAX_BATCH_TOKENS, self._pad_id, self._device)
        for batch, input_ids, mask, token_count in batches:
            rows = self._model.text_vectors(input_ids, mask, labels.keys_values, self._bert, token_count)
            vectors[list(batch.positions)] = rows
        return vectors

    def _shared_states(self, frames: Sequence[Frame]) -> tuple[LabelStates, list[Tensor]]:
        """Return the states of all labels of these frames, and for each frame the rows of its own labels there.

        A label has one row, whatever the number of frames; in a frame with examples it has one of its own.
        """
        alone = dict.fromkeys(chain.from_iterable(frame.label_texts for frame in frames if not frame.examples))
        parts = self._label_cache.states(tuple(alone))
        rows = {text: row for row, text in enumerate(alone)}
        own_rows: dict[Frame, Tensor] = {}
        count = len(alone)
        for frame in dict.fromkeys(frames):
            if frame.examples:
                parts.append(self._cached_frame_states(frame))
                own_rows[frame] = torch.arange(count, count + len(frame.labels))
                count += len(frame.labels)
            else:
                own_rows[frame] = torch.tensor([rows[text] for text in frame.label_texts])
        return LabelStates.concatenate(parts), [own_rows[frame] for frame in frames]
