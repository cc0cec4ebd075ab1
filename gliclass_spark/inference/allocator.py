"""Memory allocator: keeps the memory of a batch for the next one, and returns that of a load."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

# mallopt(3)
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_BLOCK = 32 * 2**20  # bytes; the most that glibc allows
_KEPT = 256 * 2**20  # bytes


def return_freed_memory() -> None:
    """Return the memory that this process has freed to the kernel, with glibc; elsewhere it does nothing."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


@cache
def keep_freed_memory() -> None:
    """Let this process keep up to 256 MiB of freed memory, with glibc; elsewhere it does nothing.

    By default glibc returns each tensor of a few megabytes to the kernel, which clears the memory before it hands it
    out again, page by page. On two cores, a forward pass then takes up to twice as long.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)
