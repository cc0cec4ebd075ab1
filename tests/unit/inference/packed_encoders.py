"""Small encoders, and torch's attention within packed rows replaced by a plain one that runs on a processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from reference_models import Reference
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModel

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.kernels import fast_encoder as fast_encoder_module
from gliclass_spark.inference.kernels.linear import ConcatenatedLinear
from gliclass_spark.inference.kernels.packed_bert import packed_bert
from gliclass_spark.inference.kernels.packed_deberta import packed_deberta
from gliclass_spark.inference.kernels.packed_modernbert import packed_modernbert
from gliclass_spark.labels import LabelSet
from gliclass_spark.model import checkpoint
from gliclass_spark.model.checkpoint import Checkpoint

LABELS = LabelSet.of("sport", "machine learning", "web")
BACKBONES = ("bert", "modernbert", "deberta-v2")
SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
VOCABULARY = 100
SPECIAL_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
OF_BACKBONE: dict[str, dict[str, Any]] = {
    "bert": SPECIAL_TOKENS,
    "modernbert": {**SPECIAL_TOKENS, "local_attention": 8},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16},
}


def plain_varlen(
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
    """What torch.nn.attention.varlen.varlen_attn computes, row by row; refuses what its kernels would misread."""
    assert cu_seq_q.dtype is cu_seq_k.dtype is torch.int32
    assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
    bounds = cu_seq_q.tolist()
    assert bounds[0] == 0
    assert bounds[-1] == len(query), "torch's kernels leave the tokens behind the last row undefined"
    assert max(stop - start for start, stop in pairwise(bounds)) <= min(max_q, max_k)
    rows = []
    for start, stop in pairwise(bounds):
        parts = (part[start:stop].transpose(0, 1) for part in (query, key, value))
        distance = torch.arange(stop - start) - torch.arange(stop - start)[:, None]
        left, right = (stop if size < 0 else size for size in window_size)
        mask = (distance >= -left) & (distance <= right)
        rows.append(functional.scaled_dot_product_attention(*parts, attn_mask=mask).transpose(0, 1))
    return torch.cat(rows)


def plain_disentangled(
    projected: Tensor,
    boundaries: Tensor,
    max_tokens: int,
    heads: int,
    scale: float,
    c2p: Tensor | None,
    p2c: Tensor | None,
    indices: Tensor,
) -> Tensor:
    """What the Triton kernel computes, row by row; refuses what it would misread."""
    assert boundaries.dtype is indices.dtype is torch.int32
    assert all(part is None or part.is_contiguous() for part in (projected, boundaries, c2p, p2c, indices))
    bounds = boundaries.tolist()
    assert (bounds[0], bounds[-1]) == (0, len(projected))
    assert max(stop - start for start, stop in pairwise(bounds)) <= max_tokens <= len(indices) // 2 + 1
    rows = []
    for start, stop in pairwise(bounds):
        query, key, value = projected[start:stop].view(stop - start, 3, heads, -1).permute(1, 2, 0, 3)
        positions = torch.arange(stop - start)
        index = indices[len(indices) // 2 - positions[:, None] + positions].long().expand(heads, -1, -1)
        logits = query @ key.transpose(1, 2) * scale
        if c2p is not None:
            logits = logits + c2p[:, start:stop].gather(2, index)
        if p2c is not None:
            logits = logits + p2c[:, start:stop].gather(2, index.transpose(1, 2)).transpose(1, 2)
        rows.append((logits.softmax(-1) @ value).transpose(0, 1).flatten(1))
    return torch.cat(rows)


def as_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    varlen: Callable[..., Any] = plain_varlen,
    disentangled: Callable[..., Any] = plain_disentangled,
) -> None:
    monkeypatch.setattr(fast_encoder_module, "packed_attention", lambda device, dtype: varlen)
    monkeypatch.setattr(fast_encoder_module, "packed_disentangled_attention", lambda device, dtype: disentangled)


def padded(lengths: Sequence[int], seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(3, VOCABULARY, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return input_ids * mask, mask


def random_encoder(backbone: str, **changes: Any) -> Any:
    shape = {**SHAPE, **OF_BACKBONE[backbone], **changes}
    config = AutoConfig.for_model(backbone, **shape, vocab_size=VOCABULARY)
    torch.manual_seed(0)
    encoder = AutoModel.from_config(config).eval()
    for weight in encoder.parameters():
        weight.data = 0.2 * torch.randn(weight.shape) if weight.dim() > 1 else 1 + 0.1 * torch.randn(weight.shape)
    return encoder


def packed(encoder: Any) -> Any:
    with torch.no_grad():
        return (
            packed_bert(encoder, ConcatenatedLinear, plain_varlen)
            or packed_modernbert(encoder, ConcatenatedLinear, plain_varlen)
            or packed_deberta(encoder, ConcatenatedLinear, plain_disentangled)
        )


ENCODERS = {backbone: random_encoder(backbone) for backbone in BACKBONES}


def loaded(reference: Callable[..., Reference], backbone: str, **head: Any) -> Checkpoint:
    """A model of its own, which the test moves and rounds."""
    return checkpoint.load(resolve_model(str(reference(backbone, **head).folder)))
