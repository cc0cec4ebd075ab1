"""Every input goes through the model exactly once, within the budget, with its like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliclass_spark.inference.batching import MicroBatch, micro_batches, text_groups

LENGTHS = st.lists(st.integers(0, 600), max_size=40)
BUDGETS = st.integers(1, 5000)


@given(LENGTHS, BUDGETS)
def test_every_position_is_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    positions = [position for batch in micro_batches(lengths, budget) for position in batch.positions]
    assert sorted(positions) == list(range(len(lengths)))


@given(LENGTHS, BUDGETS)
def test_a_batch_keeps_the_budget_unless_its_only_input_exceeds_it(lengths: list[int], budget: int) -> None:
    for batch in micro_batches(lengths, budget):
        assert batch.positions
        assert len(batch.positions) == 1 or batch.tokens * len(batch.positions) <= budget


@given(LENGTHS, BUDGETS)
def test_a_batch_is_as_wide_as_its_longest_input(lengths: list[int], budget: int) -> None:
    for batch in micro_batches(lengths, budget):
        assert batch.tokens == max(lengths[position] for position in batch.positions)


@given(LENGTHS, BUDGETS)
def test_the_longest_inputs_come_first(lengths: list[int], budget: int) -> None:
    order = [lengths[position] for batch in micro_batches(lengths, budget) for position in batch.positions]
    assert order == sorted(lengths, reverse=True)


@given(LENGTHS, BUDGETS)
def test_no_batch_could_have_taken_the_next_input_too(lengths: list[int], budget: int) -> None:
    batches = list(micro_batches(lengths, budget))
    assert all(batch.tokens * (len(batch.positions) + 1) > budget for batch in batches[:-1] if batch.tokens)


def test_batches_of_four_inputs() -> None:
    assert list(micro_batches([3, 10, 4, 9], 20)) == [MicroBatch((1, 3), 10), MicroBatch((2, 0), 4)]


def test_no_inputs_make_no_batches() -> None:
    assert list(micro_batches([], 100)) == []


@pytest.mark.parametrize(("size", "left", "right"), [(2, 1, 1), (3, 1, 2), (8, 4, 4)])
def test_halves_hold_the_same_inputs_in_the_same_order(size: int, left: int, right: int) -> None:
    batch = MicroBatch(tuple(range(size)), 7)
    first, second = batch.halves([7] * size)
    assert first.positions + second.positions == batch.positions
    assert (len(first.positions), len(second.positions)) == (left, right)


def test_each_half_is_as_wide_as_its_own_longest_input() -> None:
    [batch] = micro_batches([3, 300, 4, 200], 10_000)
    assert batch.halves([3, 300, 4, 200]) == (MicroBatch((1, 3), 300), MicroBatch((2, 0), 4))


@given(LENGTHS, st.integers(1, 10), st.integers(1, 2000))
def test_every_text_is_in_exactly_one_group_in_its_order(lengths: list[int], max_texts: int, max_chars: int) -> None:
    groups = list(text_groups(lengths, max_texts, max_chars))
    assert [position for group in groups for position in group] == list(range(len(lengths)))
    assert all(groups)


@given(LENGTHS, st.integers(1, 10), st.integers(1, 2000))
def test_a_group_keeps_both_bounds_unless_its_only_text_exceeds_them(
    lengths: list[int], max_texts: int, max_chars: int
) -> None:
    for group in text_groups(lengths, max_texts, max_chars):
        assert len(group) <= max_texts
        assert len(group) == 1 or sum(lengths[position] for position in group) <= max_chars


@given(LENGTHS, st.integers(1, 10), st.integers(1, 2000))
def test_a_group_ends_only_where_the_next_text_would_not_fit(
    lengths: list[int], max_texts: int, max_chars: int
) -> None:
    for group in list(text_groups(lengths, max_texts, max_chars))[:-1]:
        with_next = sum(lengths[position] for position in range(group.start, group.stop + 1))
        assert len(group) == max_texts or with_next > max_chars


def test_groups_of_four_texts() -> None:
    assert list(text_groups([5, 5, 11, 1], max_texts=3, max_chars=10)) == [range(2), range(2, 3), range(3, 4)]
