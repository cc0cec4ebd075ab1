"""A label set's prompt: the token ids around each window of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gliclass_spark.labels import LabelSet

# Tokens that neighbouring windows of a long text share, so that no sentence is only seen cut in two.
_OVERLAP_TOKENS = 64


@dataclass(frozen=True)
class EncodedExample:
    """An example as an input of its own. labels: positions of its labels in the label set."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Frame:
    """Token ids before and behind a window of text, for one group of a label set's labels.

    labels: positions of the group in the label set.
    label_texts: what the model encodes for each of these labels.
    label_ids: token ids of a second input, for architectures that encode labels apart from the text.
    examples: for architectures that encode examples apart from the text.
    """

    head: tuple[int, ...]
    tail: tuple[int, ...]
    labels: range
    label_texts: tuple[str, ...]
    label_ids: tuple[int, ...] = ()
    # Long, and as good as always the same for equal labels: not worth hashing for each batch.
    examples: tuple[EncodedExample, ...] = field(default=(), hash=False)

    def __len__(self) -> int:
        """Return the number of its own tokens, in the text's input."""
        return len(self.head) + len(self.tail)

    def input_ids(self, window: Sequence[int]) -> list[int]:
        """Return the token ids of the model's input for a window of text."""
        return [*self.head, *window, *self.tail]


@dataclass(frozen=True)
class Prompt:
    """How every text of one label set is encoded: each of its windows in each frame.

    text_prefix: the string that is tokenized in front of a text, because it decides how the text's first word is cut.
    task_ids: token ids of the task prompt in that prefix, tokenized without a text behind it.
    max_text_tokens: room for task prompt and text in the longest frame.
    """

    label_set: LabelSet
    frames: tuple[Frame, ...]
    text_prefix: str
    task_ids: tuple[int, ...]
    max_text_tokens: int

    def windows(self, text_ids: Sequence[int]) -> list[Sequence[int]]:
        """Cut a text's token ids into windows, the task prompt before each; one window if the text fits.

        Windows have one length and overlap. With `long_texts: cut` there is only the first.
        """
        if len(text_ids) <= self.max_text_tokens or self.label_set.window_aggregation == "cut":
            return [text_ids[: self.max_text_tokens]]
        # The ids of this text, not `task_ids`: the tokenizer may merge the task's last word with the text's first.
        task, text = text_ids[: len(self.task_ids)], text_ids[len(self.task_ids) :]
        return [[*task, *text[span.start : span.stop]] for span in self._window_spans(len(text))]

    def window_shares(self, token_count: int) -> list[float]:
        """Return each window's share of a text of `token_count` tokens; the shares sum to 1.

        A token that two windows contain counts half in each.
        """
        spans = self._window_spans(token_count)
        window_count = np.zeros(token_count)
        for span in spans:
            window_count[span.start : span.stop] += 1
        return [float((1 / window_count[span.start : span.stop]).sum()) / token_count for span in spans]

    def _window_spans(self, token_count: int) -> list[range]:
        """Return the token positions that each window covers, without the task prompt."""
        room = self.max_text_tokens - len(self.task_ids)
        if token_count <= room:
            return [range(token_count)]
        overlap = min(_OVERLAP_TOKENS, room // 4)
        count = -(-(token_count - overlap) // (room - overlap))
        size = -(-(token_count + (count - 1) * overlap) // count)
        starts = [number * (token_count - size) // (count - 1) for number in range(count)]
        return [range(start, start + size) for start in starts]

    def token_count(self, text_ids: Sequence[int]) -> int:
        """Return how many tokens a text adds to the task prompt; 0 if the tokenizer drops all of it.

        A text whose first word merges with the prompt's last one adds at least one.
        """
        added = len(text_ids) - len(self.task_ids)
        if added > 0:
            return added
        return 0 if tuple(text_ids) == self.task_ids else 1
