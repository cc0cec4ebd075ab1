"""Token rows: a padded batch as rows of tokens one after another, with the padding or without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional

# A processor's kernels are prepared for each number of tokens that occurs: few numbers shall occur.
_MULTIPLE = 32


@dataclass(frozen=True)
class RowGroup:
    """Consecutive rows of one length, padding included.

    tokens: where their tokens are among those of the batch. rows: how many.
    padding: attention mask, (rows, tokens), 1 for a token and 0 for padding; None without any padding.
    """

    tokens: slice
    rows: int
    padding: Tensor | None = None


@dataclass(frozen=True)
class TokenRows:
    """The tokens of a batch, (tokens,), and the groups of rows that they belong to.

    positions: of each token in its row.
    places: of each token in the flattened batch; None if all are in place. The tokens behind those that have a place
    belong to no row.
    boundaries: where each row begins, and where the last one ends, (rows + 1,) int32; only of `packed` rows, which have
    no groups.
    """

    input_ids: Tensor
    positions: Tensor
    groups: tuple[RowGroup, ...]
    places: Tensor | None
    shape: torch.Size
    boundaries: Tensor | None = None

    @staticmethod
    def of(input_ids: Tensor, attention_mask: Tensor, token_count: int | None = None) -> TokenRows:
        """Return the rows of a batch, for token ids and mask, (rows, tokens) each, padded on the right.

        On a processor each row has its own length, so what is computed of it does not depend on the other rows. On a
        GPU, where a group takes as long as a batch, all rows are one group, with the padding.

        token_count: tokens without padding; None reads it from the device, which waits for all work before.
        """
        if input_ids.device.type == "cpu":
            return TokenRows.without_padding(input_ids, attention_mask)
        return TokenRows.with_padding(input_ids, attention_mask, token_count)

    @staticmethod
    def with_padding(input_ids: Tensor, attention_mask: Tensor, token_count: int | None = None) -> TokenRows:
        """Return all rows in one group, which has the padding."""
        rows, tokens = input_ids.shape
        positions = torch.arange(tokens, device=input_ids.device).repeat(rows)
        count = _count(attention_mask, token_count)
        group = RowGroup(slice(0, rows * tokens), rows, None if count == rows * tokens else attention_mask)
        return TokenRows(input_ids.flatten(), positions, (group,), None, input_ids.shape)

    @staticmethod
    def packed(input_ids: Tensor, attention_mask: Tensor, token_count: int | None = None) -> TokenRows:
        """Return rows of any lengths one after another, for attention that takes their boundaries."""
        count = _count(attention_mask, token_count)
        lengths = attention_mask.sum(dim=1)
        boundaries = functional.pad(lengths.cumsum(0), (1, 0))
        rows = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths, output_size=count)
        positions = torch.arange(count, device=lengths.device) - boundaries[rows]
        places = rows * input_ids.shape[1] + positions
        ids = input_ids.flatten()[places]
        return TokenRows(ids, positions, (), places, input_ids.shape, boundaries.int())

    @staticmethod
    def without_padding(input_ids: Tensor, attention_mask: Tensor) -> TokenRows:
        """Return a group for each run of rows of one length."""
        places = attention_mask.flatten().nonzero().squeeze(1)
        spare = -len(places) % _MULTIPLE
        ids = functional.pad(input_ids.flatten()[places], (0, spare))
        positions = functional.pad(places % input_ids.shape[1], (0, spare))
        return TokenRows(ids, positions, _groups(attention_mask.sum(dim=1).tolist()), places, input_ids.shape)

    def picked(self, values: Tensor) -> Tensor:
        """Return values (rows, tokens, size) of a padded batch as (tokens, size); zeros for tokens of no row."""
        flat = values.flatten(0, 1)
        if self.places is None:
            return flat
        picked = flat[self.places]
        spare = len(self.input_ids) - len(self.places)
        return functional.pad(picked, (0, 0, 0, spare)) if spare else picked

    def by_group(self, projected: Tensor, attend: Callable[[Tensor, RowGroup], Tensor]) -> Tensor:
        """Return what `attend` returns for all groups, (tokens, size); zeros for tokens of no row.

        projected: (tokens, ...). attend: from a group's part of it, (rows, tokens, ...), to (rows, tokens, ...).
        """
        attended = [
            attend(projected[group.tokens].view(group.rows, -1, *projected.shape[1:]), group).flatten(2).flatten(0, 1)
            for group in self.groups
        ]
        rest = len(projected) - self.groups[-1].tokens.stop
        if rest:
            attended.append(attended[0].new_zeros(rest, attended[0].shape[1]))
        return torch.cat(attended)

    def padded(self, states: Tensor) -> Tensor:
        """Return states (tokens, hidden) as (rows, tokens, hidden), zeros for padding."""
        if self.places is not None:
            zeros = states.new_zeros(self.shape.numel(), states.shape[-1])
            states = zeros.index_copy(0, self.places, states[: len(self.places)])
        return states.view(*self.shape, -1)


def _count(attention_mask: Tensor, token_count: int | None) -> int:
    return int(attention_mask.sum()) if token_count is None else token_count


def _groups(lengths: list[int]) -> tuple[RowGroup, ...]:
    groups = []
    start = 0
    for length, rows_of_length in groupby(lengths):
        rows = len(list(rows_of_length))
        groups.append(RowGroup(slice(start, start + rows * length), rows))
        start += rows * length
    return tuple(groups)
