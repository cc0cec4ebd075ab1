"""Batching: inputs of like length share a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MicroBatch:
    """Inputs that are padded to one length and run at once.

    positions: of the inputs, in the sequence that was batched. tokens: length of the longest.
    """

    positions: tuple[int, ...]
    tokens: int

    def halves(self, lengths: Sequence[int]) -> tuple[MicroBatch, MicroBatch]:
        """Split the batch in two, for a device that is out of memory.

        Each half is padded to its own longest input: a short input must not fail for the padding beside a long one.
        lengths: tokens of each input of the sequence that was batched.
        """
        middle = len(self.positions) // 2
        first, second = self.positions[:middle], self.positions[middle:]
        return (
            MicroBatch(first, max(lengths[position] for position in first)),
            MicroBatch(second, max(lengths[position] for position in second)),
        )


def micro_batches(lengths: Sequence[int], max_batch_tokens: int) -> Iterator[MicroBatch]:
    """Cut inputs of these lengths (tokens) into batches of at most `max_batch_tokens`, padding included.

    Inputs are sorted by length, the longest first: there is little padding, and a device that is too small fails at
    once. An input longer than the budget runs alone.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        stop = min(start + max(1, max_batch_tokens // max(longest, 1)), len(order))
        yield MicroBatch(tuple(order[start:stop]), longest)
        start = stop


def text_groups(lengths: Sequence[int], max_texts: int, max_chars: int) -> Iterator[range]:
    """Cut texts of these lengths (characters), in their order, into groups that are tokenized at once.

    A group has at most `max_texts` texts and `max_chars` characters; a longer text is a group of its own.
    """
    start = 0
    chars = 0
    for position, length in enumerate(lengths):
        if position > start and (position - start == max_texts or chars + length > max_chars):
            yield range(start, position)
            start, chars = position, 0
        chars += length
    if start < len(lengths):
        yield range(start, len(lengths))
