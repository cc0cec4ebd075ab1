"""Packed BERT: query, key and value in one product; on a CPU, weights laid out for oneDNN and fused operations."""

from __future__ import annotations

from typing import Any

import torch

from gliclass_spark.inference.kernels.linear import ConcatenatedLinear, PackedLinear, onednn_packs
from gliclass_spark.model.encoders.bert import Bert, LinearFactory
from gliclass_spark.model.encoders.bert_weights import BertWeights, is_plain_bert
from gliclass_spark.model.encoders.varlen import VarlenAttention


def packed_bert(
    encoder: Any, linear: LinearFactory | None = None, varlen: VarlenAttention | None = None
) -> Bert | None:
    """Return a faster copy of a BERT, or None if its own forward pass must be used.

    It is None for other encoders, and for a BertModel whose device and precision neither oneDNN nor `varlen` supports.
    In float32 the states are those of the encoder up to rounding.

    linear: the linear layers; None takes those of the encoder's precision that are fastest on its device.
    varlen: attention over packed rows, without padding; None takes that of `TokenRows.of`.
    """
    has_no_forward = isinstance(encoder, BertWeights)
    if not has_no_forward and not _is_transformers_bert(encoder):
        return None
    packs = onednn_packs(encoder.device, encoder.dtype)
    if linear is None and varlen is None and not packs and not has_no_forward:
        return None
    with torch.no_grad():
        return Bert(encoder, linear or (PackedLinear if packs else ConcatenatedLinear), varlen)


def _is_transformers_bert(encoder: Any) -> bool:
    from transformers import BertModel  # already imported if the encoder is a model of transformers

    return type(encoder) is BertModel and is_plain_bert(encoder.config)
