"""Labels that are read once, and remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from gliclass_spark.inference.batching import micro_batches
from gliclass_spark.inference.padding import pad

# With an encoder of the embedded model's size 25 MB, or 300 MB where texts read the labels in every layer.
_MOST = 16_384
_BATCH_TOKENS = 4096

State = TypeVar("State")
State_co = TypeVar("State_co", covariant=True)


class Rows(Protocol[State_co]):
    def __getitem__(self, row: int, /) -> State_co: ...


class LabelCache(Generic[State]):
    """What a model keeps of labels, for as long as this lives: the longest unused is forgotten.

    label_ids: a label's input; read: what to keep of inputs, (labels, tokens) ids and mask, one row for each.
    """

    def __init__(
        self,
        label_ids: Callable[[str], list[int]],
        read: Callable[[Tensor, Tensor], Rows[State]],
        tokenizer: PreTrainedTokenizerFast,
        device: torch.device,
    ) -> None:
        self._label_ids = label_ids
        self._read = read
        self._pad_id = tokenizer.pad_token_id or 0
        self._device = device
        self._kept: OrderedDict[str, State] = OrderedDict()

    def of(self, texts: Sequence[str]) -> list[State]:
        """In the order of the labels' texts."""
        unread = [text for text in dict.fromkeys(texts) if text not in self._kept]
        inputs = [self._label_ids(text) for text in unread]
        for batch in micro_batches([len(ids) for ids in inputs], _BATCH_TOKENS):
            input_ids, mask = pad([inputs[row] for row in batch.positions], batch.tokens, self._pad_id, self._device)
            states = self._read(input_ids, mask)
            for number, row in enumerate(batch.positions):
                self._kept[unread[row]] = states[number]
        for text in texts:
            self._kept.move_to_end(text)
        found = [self._kept[text] for text in texts]
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return found
