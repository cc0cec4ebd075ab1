"""Disentangled attention over packed rows, as a Triton kernel: no logits of all pairs of tokens are kept.

DeBERTa's attention logit from token i to token j of a row is (arXiv 2006.03654, section 3.1)

    scale * (query_i · key_j + query_i · position_key(i - j) + key_j · position_query(i - j))

A program computes a block of queries of one row and head. It goes over the row's keys in blocks, with the running
maximum and sum of FlashAttention (arXiv 2205.14135, section 3.1), and gathers both position terms from products that
were computed before. What it computes does not depend on the other rows.
"""

from __future__ import annotations

import subprocess

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.errors import TritonError

from gliclass_spark.inference.kernels.packed_attention import KernelError

# Queries and keys that a program holds at once. With these, four programs share a multiprocessor's registers (head size
# 64, by the compiler's report). One size for all rows: what runs later was compiled and checked at load.
_QUERIES = 32
_KEYS = 64
# tl.dot multiplies matrices of at least this size.
_MIN_SIZE = 16

# Of missing or wrong compilers, of a kernel that does not fit into the GPU, and of a cache that can't be written.
_BUILD_ERRORS = (TritonError, subprocess.SubprocessError, OSError, AssertionError)


def attend_disentangled(
    projected: Tensor,
    boundaries: Tensor,
    max_tokens: int,
    heads: int,
    scale: float,
    c2p: Tensor | None,
    p2c: Tensor | None,
    indices: Tensor,
) -> Tensor:
    """See `PackedDisentangledAttention`. Raises KernelError where Triton can't build the kernel."""
    size = projected.shape[1] // (3 * heads)
    attended = projected.new_empty(len(projected), heads * size)
    blocks = triton.cdiv(max_tokens, _QUERIES)
    position_terms = c2p if c2p is not None else p2c
    try:
        with torch.cuda.device_of(projected):  # type: ignore[no-untyped-call]  # else Triton takes the current GPU
            _attend_block[(len(boundaries) - 1) * blocks, heads](
                projected,
                boundaries,
                c2p,
                p2c,
                indices,
                attended,
                scale,
                blocks,
                len(projected),
                len(indices) // 2,
                0 if position_terms is None else position_terms.shape[2],
                heads=heads,
                size=size,
                padded_size=max(triton.next_power_of_2(size), _MIN_SIZE),
                query_block=_QUERIES,
                key_block=_KEYS,
                num_warps=4,
                num_stages=2,
                enable_fp_fusion=True,
            )
    except _BUILD_ERRORS as error:
        reason = str(error).strip().splitlines() or [""]
        raise KernelError(f"Triton {triton.__version__}: {type(error).__name__}: {reason[-1]}") from error
    return attended


# By default Triton compiles a kernel again where an integer is 1, or a multiple of 16.
@triton.jit(do_not_specialize=["blocks", "tokens", "center", "columns"])  # type: ignore[untyped-decorator]
def _attend_block(
    projected: tl.tensor,
    boundaries: tl.tensor,
    c2p: tl.tensor,
    p2c: tl.tensor,
    indices: tl.tensor,
    attended: tl.tensor,
    scale: tl.tensor,
    blocks: tl.tensor,
    tokens: tl.tensor,
    center: tl.tensor,
    columns: tl.tensor,
    heads: tl.constexpr,
    size: tl.constexpr,
    padded_size: tl.constexpr,
    query_block: tl.constexpr,
    key_block: tl.constexpr,
) -> None:
    """Attend from a block of queries of one row and head.

    blocks: of the longest row. tokens: of all rows. center: where `indices` has the distance 0. columns: of c2p, p2c.
    """
    row = tl.program_id(0) // blocks
    first_query = tl.program_id(0) % blocks * query_block
    head = tl.program_id(1)
    row_start = tl.load(boundaries + row).to(tl.int64)  # products of it exceed 32 bits
    length = tl.load(boundaries + row + 1) - tl.load(boundaries + row)
    if first_query >= length:
        return
    stride = 3 * heads * size
    projected += row_start * stride + head * size
    attended += row_start * heads * size + head * size
    row_terms = (head * tokens + row_start) * columns

    feature = tl.arange(0, padded_size)
    is_feature = feature < size
    # Behind the row's end its last token is read: what is computed of it is not stored, or has the weight 0.
    i = tl.minimum(first_query + tl.arange(0, query_block), length - 1)
    query = tl.load(projected + i[:, None] * stride + feature[None, :], mask=is_feature[None, :], other=0.0)
    largest = tl.full([query_block], float("-inf"), tl.float32)
    total = tl.zeros([query_block], tl.float32)
    values = tl.zeros([query_block, padded_size], tl.float32)
    for first_key in range(0, length, key_block):
        is_key = first_key + tl.arange(0, key_block) < length
        j = tl.minimum(first_key + tl.arange(0, key_block), length - 1)
        keys = projected + heads * size + j[None, :] * stride + feature[:, None]
        logits = tl.dot(query, tl.load(keys, mask=is_feature[:, None], other=0.0), input_precision="ieee") * scale
        if c2p is not None:
            index = tl.load(indices + (center - i[:, None] + j[None, :]))
            logits += tl.load(c2p + row_terms + i[:, None] * columns + index).to(tl.float32)
        if p2c is not None:
            # By key, and turned afterwards: threads side by side read what is side by side in memory.
            index = tl.load(indices + (center - i[None, :] + j[:, None]))
            logits += tl.trans(tl.load(p2c + row_terms + j[:, None] * columns + index)).to(tl.float32)
        logits = tl.where(is_key[None, :], logits, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(logits, 1))
        weights = tl.exp(logits - new_largest[:, None])
        shrink = tl.exp(largest - new_largest)
        largest = new_largest
        total = total * shrink + tl.sum(weights, 1)
        value = tl.load(
            projected + 2 * heads * size + j[:, None] * stride + feature[None, :], mask=is_feature[None, :], other=0.0
        )
        values = tl.dot(weights.to(value.dtype), value, values * shrink[:, None], input_precision="ieee")
    is_query = first_query + tl.arange(0, query_block) < length
    tl.store(
        attended + i[:, None] * (heads * size) + feature[None, :],
        (values / total[:, None]).to(attended.dtype.element_ty),
        mask=is_query[:, None] & is_feature[None, :],
    )
