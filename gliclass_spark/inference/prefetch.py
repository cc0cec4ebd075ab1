"""Prefetching: the next item is prepared in the background while the current one is in use."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

THREAD_NAME = "gliclass-prefetch"


def prefetch(items: Iterable[T]) -> Generator[T, None, None]:
    """Yield the items in their order, each computed by a background thread while the one before it is in use.

    The thread is at most one item ahead. An error in computing an item is raised in that item's turn. Closing the
    generator, or exhausting it, ends the thread, after the item that it is computing.
    """
    iterator = iter(items)

    def take_one() -> tuple[T, ...]:
        return tuple(islice(iterator, 1))

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix=THREAD_NAME) as thread:
        pending = thread.submit(take_one)
        while item := pending.result():
            pending = thread.submit(take_one)
            yield from item
