"""Poolings: from a text's token states to one vector.

Each pooling takes states (batch, tokens, hidden) and a mask (batch, tokens), 1.0 for real tokens, and returns
(batch, hidden). Padding is excluded, so a text's vector does not depend on its batch; without padding the results
are those of the published `gliclass` poolings.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Pooling = Callable[[Tensor, Tensor], Tensor]


def _max(states: Tensor, mask: Tensor) -> Tensor:
    return states.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)


def _first(states: Tensor, mask: Tensor) -> Tensor:
    return states[:, 0]


def _last(states: Tensor, mask: Tensor) -> Tensor:
    last = mask.sum(dim=1).long() - 1
    return states[torch.arange(states.shape[0], device=states.device), last]


def _sum(states: Tensor, mask: Tensor) -> Tensor:
    return torch.einsum("btd,bt->bd", states, mask)


def _avg(states: Tensor, mask: Tensor) -> Tensor:
    return _sum(states, mask) / mask.sum(dim=1, keepdim=True)


def _rms(states: Tensor, mask: Tensor) -> Tensor:
    return _avg(states.pow(2), mask).sqrt()


def _abs_max(states: Tensor, mask: Tensor) -> Tensor:
    return _max(states.abs(), mask)


def _abs_avg(states: Tensor, mask: Tensor) -> Tensor:
    return _avg(states.abs(), mask)


def _pass(states: Tensor, mask: Tensor) -> Tensor:
    """Return the states unchanged, (batch, tokens, hidden), for a scorer that takes tokens."""
    return states


POOLINGS: dict[str, Pooling] = {
    "first": _first,
    "last": _last,
    "max": _max,
    "avg": _avg,
    "sum": _sum,
    "rms": _rms,
    "abs_max": _abs_max,
    "abs_avg": _abs_avg,
    "pass": _pass,
}
