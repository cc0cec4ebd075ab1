"""Label cache: the states of labels, encoded once each and evicted least recently used first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from gliclass_spark.inference.padding import padded_batches

# With an encoder of the embedded model's size 25 MB, or 300 MB where texts attend to the labels in every layer.
_MAX_LABELS = 16_384
_MAX_BATCH_TOKENS = 4096

State = TypeVar("State")
State_co = TypeVar("State_co", covariant=True)


class StateBatch(Protocol[State_co]):
    """The states of a batch of labels, by row."""

    def __getitem__(self, row: int, /) -> State_co: ...


class LabelCache(Generic[State]):
    """LRU cache from a label's text to what a model computes of it alone.

    label_ids: returns the token ids of a label's input.
    encode: returns the states of a batch of labels, from token ids and mask, (labels, tokens) each, and the sum of the
        mask.
    """

    def __init__(
        self,
        label_ids: Callable[[str], list[int]],
        encode: Callable[[Tensor, Tensor, int], StateBatch[State]],
        tokenizer: PreTrainedTokenizerFast,
        device: torch.device,
    ) -> None:
        self._label_ids = label_ids
        self._encode = encode
        self._pad_id = tokenizer.pad_token_id or 0
        self._device = device
        self._states: OrderedDict[str, State] = OrderedDict()

    def states(self, label_texts: Sequence[str]) -> list[State]:
        """Return the state of each label, in their order; labels that are not cached are encoded first."""
        self._add([text for text in dict.fromkeys(label_texts) if text not in self._states])
        for text in label_texts:
            self._states.move_to_end(text)
        states = [self._states[text] for text in label_texts]
        while len(self._states) > _MAX_LABELS:
            self._states.popitem(last=False)
        return states

    def _add(self, label_texts: Sequence[str]) -> None:
        inputs = [self._label_ids(text) for text in label_texts]
        batches = padded_batches(inputs, _MAX_BATCH_TOKENS, self._pad_id, self._device)
        for batch, input_ids, mask, token_count in batches:
            states = self._encode(input_ids, mask, token_count)
            for row, position in enumerate(batch.positions):
                self._states[label_texts[position]] = states[row]
