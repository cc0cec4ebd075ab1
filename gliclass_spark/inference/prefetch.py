"""Work that is made ready while the work before it is done."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

THREAD_NAME = "gliclass-prefetch"


def prefetch(items: Iterable[T]) -> Generator[T, None, None]:
    """The same items in the same order, each made by one background thread while the one before it is in use.

    The thread is never more than one item ahead. An error in making an item is raised where the item
    would stand. When the generator ends, or is closed, so has the thread; an item that it is making
    just then is waited for.
    """
    iterator = iter(items)

    def following() -> tuple[T, ...]:
        return tuple(islice(iterator, 1))

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix=THREAD_NAME) as thread:
        coming = thread.submit(following)
        while item := coming.result():
            coming = thread.submit(following)
            yield from item
