"""Choice of an encoder's fast path, and the check that it computes what the encoder does."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from gliclass_spark.inference.context_window import max_input_tokens
from gliclass_spark.inference.kernels.linear import ConcatenatedLinear, PackedLinear, onednn_packs
from gliclass_spark.inference.kernels.packed_bert import packed_bert
from gliclass_spark.inference.kernels.packed_deberta import packed_deberta
from gliclass_spark.inference.kernels.packed_modernbert import packed_modernbert
from gliclass_spark.model.architectures.uni_encoder import Encode
from gliclass_spark.model.encoders.bert_weights import BertWeights

logger = logging.getLogger(__name__)

_DEVICES = ("cpu", "cuda")
# Largest difference between the states of both paths, over the size of the states.
_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
# Longer than the local attention of the published models, and than their shortest distance that shares a bucket.
_CHECKED_LENGTHS = (160, 40)


def fast_encoder(encoder: Any) -> Encode | None:
    """Return a faster way to an encoder's last states, or None if its own forward pass must be used.

    A fast path that does not agree with the encoder's own forward pass is not used, which is logged.
    """
    encode = _fast_path(encoder)
    if encode is None or isinstance(encoder, BertWeights):
        return encode  # BertWeights has no forward pass of its own
    difference = _difference(encode, encoder)
    if difference <= _TOLERANCES.get(encoder.dtype, 0.0):
        return encode
    logger.warning(
        "%s runs slowly, by its own forward pass: the states of the fast one differ by %.1e in %s",
        type(encoder).__name__,
        difference,
        encoder.dtype,
    )
    return None


def _fast_path(encoder: Any) -> Encode | None:
    bert = packed_bert(encoder)
    if bert is not None or isinstance(encoder, BertWeights) or encoder.device.type not in _DEVICES:
        return bert
    linear = PackedLinear if onednn_packs(encoder.device, encoder.dtype) else ConcatenatedLinear
    with torch.no_grad():
        return packed_deberta(encoder, linear) or packed_modernbert(encoder, linear)


@torch.inference_mode()
def _difference(encode: Encode, encoder: Any) -> float:
    """Return how much the states of two random inputs in one batch differ, relative to their size."""
    lengths = [min(length, max_input_tokens(encoder)) for length in _CHECKED_LENGTHS]
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(encoder.config.vocab_size, (len(lengths), max(lengths)), generator=generator)
    attention_mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    input_ids, attention_mask = input_ids.to(encoder.device), attention_mask.long().to(encoder.device)
    expected = _states(encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state, attention_mask)
    difference = _states(encode(input_ids, attention_mask), attention_mask) - expected
    return float(difference.norm() / expected.norm())


def _states(states: Tensor, attention_mask: Tensor) -> Tensor:
    return states[attention_mask.bool()].float()
