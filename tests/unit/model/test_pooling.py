"""Pooling ignores padding, and equals the reference's pooling."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from gliclass.poolings import POOLING2OBJECT as REFERENCE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gliclass_spark.model.heads.pooling import POOLINGS

HIDDEN = 3


def pool(name: str, states: Tensor, mask: Tensor) -> Tensor:
    return POOLINGS[name](states, mask)


@st.composite
def rows(draw: st.DrawFn) -> list[Tensor]:
    """Token states of rows of different lengths; integers, whose sums are exact."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    values = [draw(st.lists(st.integers(-100, 100), min_size=n * HIDDEN, max_size=n * HIDDEN)) for n in lengths]
    return [torch.tensor(row, dtype=torch.float32).view(-1, HIDDEN) for row in values]


def pad(rows: list[Tensor], extra: int, filler: float) -> tuple[Tensor, Tensor]:
    """Return states (rows, tokens, hidden) padded with `filler`, and their mask."""
    longest = max(map(len, rows)) + extra
    states = torch.full((len(rows), longest, HIDDEN), filler)
    mask = torch.zeros(len(rows), longest)
    for row, alone in enumerate(rows):
        states[row, : len(alone)] = alone
        mask[row, : len(alone)] = 1.0
    return states, mask


def test_every_pooling_of_the_reference_is_supported() -> None:
    assert set(POOLINGS) == set(REFERENCE)


@settings(deadline=None, max_examples=50)
@given(rows=rows(), extra=st.integers(0, 3), filler=st.sampled_from([0.0, 1e4, -1e4]))
def test_a_row_pools_to_the_same_vector_with_any_padding(rows: list[Tensor], extra: int, filler: float) -> None:
    for name in set(POOLINGS) - {"pass"}:
        together = pool(name, *pad(rows, extra, filler))
        alone = torch.cat([pool(name, row.unsqueeze(0), torch.ones(1, len(row))) for row in rows])
        assert together.shape == (len(rows), HIDDEN)
        torch.testing.assert_close(together, alone, msg=lambda message, name=name: f"{name}: {message}")


@settings(deadline=None, max_examples=50)
@given(rows=rows())
def test_without_padding_every_pooling_is_the_references(rows: list[Tensor]) -> None:
    for name, row in product(POOLINGS, rows):
        states = row.unsqueeze(0)
        expected = REFERENCE[name]()(states)
        pooled = pool(name, states, torch.ones(1, len(row)))
        torch.testing.assert_close(pooled, expected, msg=lambda message, name=name: f"{name}: {message}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("first", [1.0, -5.0]),
        ("last", [-3.0, 2.0]),
        ("max", [1.0, 2.0]),
        ("avg", [-1.0, -1.5]),
        ("sum", [-2.0, -3.0]),
        ("rms", [5.0**0.5, 14.5**0.5]),
        ("abs_max", [3.0, 5.0]),
        ("abs_avg", [2.0, 3.5]),
    ],
)
def test_poolings_of_two_tokens_and_one_of_padding(name: str, expected: list[float]) -> None:
    states = torch.tensor([[[1.0, -5.0], [-3.0, 2.0], [100.0, -100.0]]])
    torch.testing.assert_close(pool(name, states, torch.tensor([[1.0, 1.0, 0.0]])), torch.tensor([expected]))


def test_pass_returns_the_states_unchanged() -> None:
    states = torch.rand(2, 4, HIDDEN)
    assert pool("pass", states, torch.ones(2, 4)) is states
