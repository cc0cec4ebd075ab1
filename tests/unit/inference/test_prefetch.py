"""Prefetching computes the next item while the current one is in use; order, errors and the thread's end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from gliclass_spark.inference.prefetch import THREAD_NAME, prefetch

PATIENCE_S = 60


def numbers(count: int, ready: list[threading.Event]) -> Iterator[int]:
    for number in range(count):
        ready[number].set()
        yield number


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def test_one_item_is_computed_ahead_and_no_more() -> None:
    ready = [threading.Event() for _ in range(6)]
    for number in prefetch(numbers(5, ready)):
        if number < 4:
            assert ready[number + 1].wait(PATIENCE_S)
        assert not ready[number + 2 if number < 4 else 5].is_set()


def test_items_keep_their_order() -> None:
    assert list(prefetch(range(1000))) == list(range(1000))
    assert list(prefetch(())) == []
    assert list(prefetch([None, 0, ""])) == [None, 0, ""], "a falsy item is an item"


def test_an_error_is_raised_in_its_items_turn() -> None:
    def broken() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("no third")

    items = prefetch(broken())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="no third"):
        next(items)
    assert threads() == []


def test_the_items_are_computed_by_one_other_thread_that_ends_with_them() -> None:
    thread_names = list(prefetch(threading.current_thread().name for _ in range(10)))
    assert len(set(thread_names)) == 1
    assert thread_names[0].startswith(THREAD_NAME)
    assert threads() == []


def test_closing_ends_the_thread_and_computes_no_more_items() -> None:
    ready = [threading.Event() for _ in range(5)]
    items = prefetch(numbers(5, ready))
    next(items)
    items.close()
    assert threads() == []
    assert not ready[2].is_set()


def test_nothing_is_computed_before_the_first_item_is_taken() -> None:
    ready = [threading.Event()]
    items = prefetch(numbers(1, ready))
    assert threads() == []
    items.close()
    assert not ready[0].is_set()
