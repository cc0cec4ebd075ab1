"""Attention over packed rows: every token attends within its own row, whatever the rows' lengths."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from gliclass_spark.model.encoders.token_rows import TokenRows


class VarlenAttention(Protocol):
    """Attention within rows of any length; the contract of torch.nn.attention.varlen.varlen_attn."""

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        window_size: tuple[int, int] = (-1, -1),
    ) -> Tensor:
        """Return the attended values, (tokens, heads, size), as query, key and value are.

        cu_seq_q, cu_seq_k: where rows begin and end, (rows + 1,) int32.
        max_q, max_k: tokens of the longest row, or more.
        window_size: tokens before and behind that one attends to; -1 for all.
        """


def attend_packed(
    varlen: VarlenAttention, projected: Tensor, rows: TokenRows, heads: int, window: int | None = None
) -> Tensor:
    """Return attended values (tokens, hidden) of queries, keys and values in one, (tokens, 3 * hidden).

    rows: packed. window: tokens at most so far away are attended to; None for the whole row.
    """
    assert rows.boundaries is not None  # noqa: S101
    query, key, value = projected.view(len(projected), 3, heads, -1).unbind(1)
    bounds = rows.boundaries, rows.boundaries, rows.shape[1], rows.shape[1]
    if window is None:  # the argument is missing from torch 2.10
        return varlen(query, key, value, *bounds).flatten(1)
    return varlen(query, key, value, *bounds, window_size=(window, window)).flatten(1)
