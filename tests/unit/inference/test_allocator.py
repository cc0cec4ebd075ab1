"""Memory of a batch is kept for the next one, where the C library is glibc."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from gliclass_spark.inference.allocator import keep_freed_memory

ELEMENTS = 2**20  # 4 MiB of float32, 1,024 pages
TENSORS = 10
REPEATS = 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is set")
def test_a_tensor_of_megabytes_is_not_cleared_by_the_kernel_each_time() -> None:
    keep_freed_memory()
    batch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(REPEATS):
        batch()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    # Threads of other libraries have some, too.
    assert faults < REPEATS * TENSORS * ELEMENTS * 4 / resource.getpagesize() / 4


def batch() -> None:
    """Allocate tensors one after another, and free all."""
    tensors = [torch.zeros(ELEMENTS) for _ in range(TENSORS)]
    del tensors
