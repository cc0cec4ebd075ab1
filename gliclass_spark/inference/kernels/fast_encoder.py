"""Choice of an encoder's fast path, and the check that it computes what the encoder does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gliclass_spark.inference.context_window import max_input_tokens
from gliclass_spark.inference.device import ModelPrecision
from gliclass_spark.inference.kernels.int8_linear import Int8Linear, int8_is_available
from gliclass_spark.inference.kernels.linear import ConcatenatedLinear, PackedLinear, onednn_packs
from gliclass_spark.inference.kernels.packed_attention import packed_attention, packed_disentangled_attention
from gliclass_spark.inference.kernels.packed_bert import packed_bert
from gliclass_spark.inference.kernels.packed_deberta import packed_deberta
from gliclass_spark.inference.kernels.packed_modernbert import packed_modernbert
from gliclass_spark.model.encoders.bert import Bert, LinearFactory
from gliclass_spark.model.encoders.bert_weights import BertWeights
from gliclass_spark.model.encoders.encode import Encode

logger = logging.getLogger(__name__)

_DEVICES = ("cpu", "cuda")
# Largest difference between the states of both paths, over the size of the states.
_TOLERANCES: dict[ModelPrecision, float] = {"float32": 1e-4, "bfloat16": 5e-2, "int8": 0.1}
# Longer than the local attention of the published models, and than their shortest distance that shares a bucket.
_CHECKED_LENGTHS = (160, 40)
# A GPU's attention has other kernels, or more blocks, for long rows than for short ones.
_CHECKED_LENGTHS_ON_GPUS = (480, 160, 40)
# A BERT's layers treat all distances alike.
_CHECKED_LENGTHS_OF_BERT = (24, 8)

# Makes a forward pass, or None for an encoder that it does not cover.
_Build = Callable[[], Encode | None]


class Int8Error(Exception):
    """An encoder has no forward pass in 8-bit integers, or one that is not exact enough; says why in one line."""


def fast_bert(encoder: Any, precision: ModelPrecision) -> Bert | None:
    """Return a BERT's faster forward pass, or None for other encoders. Raises Int8Error.

    If it does not agree with the plain one, that is returned, which is logged.
    """
    linear = _int8_linear() if precision == "int8" else None
    varlen = packed_attention(encoder.device, encoder.dtype)
    builds: list[_Build] = [partial(packed_bert, encoder, linear)]
    if varlen is not None:
        builds.insert(0, partial(packed_bert, encoder, linear, varlen))
    bert = _first_that_agrees(builds, encoder, precision)
    if isinstance(bert, Bert):
        return bert
    return Bert(encoder) if isinstance(encoder, BertWeights) else None


def fast_encoder(encoder: Any, precision: ModelPrecision) -> Encode | None:
    """Return a faster way to an encoder's last states, or None if its own forward pass must be used.

    One that does not agree with the encoder's own forward pass is not used, which is logged. Raises Int8Error.
    """
    bert = fast_bert(encoder, precision)
    if bert is not None or encoder.device.type not in _DEVICES:
        return bert
    linear = _linear(encoder, precision)
    varlen = packed_attention(encoder.device, encoder.dtype)
    builds: list[_Build] = [partial(packed_deberta, encoder, linear), partial(packed_modernbert, encoder, linear)]
    if varlen is not None:
        builds.insert(0, partial(packed_modernbert, encoder, linear, varlen))
    disentangled = packed_disentangled_attention(encoder.device, encoder.dtype)
    if disentangled is not None:
        builds.insert(0, partial(packed_deberta, encoder, linear, disentangled))
    encode = _first_that_agrees(builds, encoder, precision)
    if encode is None and precision == "int8":
        raise Int8Error(f"{type(encoder).__name__} has no forward pass in 8-bit integers")
    return encode


def _linear(encoder: Any, precision: ModelPrecision) -> LinearFactory:
    if precision == "int8":
        return _int8_linear()
    return PackedLinear if onednn_packs(encoder.device, encoder.dtype) else ConcatenatedLinear


def _int8_linear() -> LinearFactory:
    if not int8_is_available():
        raise Int8Error(f"torch {torch.__version__} lacks oneDNN's products of 8-bit integers")
    return Int8Linear


def _first_that_agrees(builds: Sequence[_Build], encoder: Any, precision: ModelPrecision) -> Encode | None:
    """Return the first of these forward passes that runs and agrees with the plain one, or None.

    Logs why one is not used; for int8 raises Int8Error instead.
    """
    name = type(encoder).__name__
    reason = None
    for build in builds:
        try:
            with torch.no_grad():
                encode = build()
            if encode is None:
                continue
            differences = [_difference(encode, encoder, lengths) for lengths in _checked_lengths(encode, encoder)]
            too_large = [difference for difference in differences if not difference <= _TOLERANCES[precision]]
            if not too_large:
                if reason is not None:
                    logger.warning("%s runs more slowly, with padding: %s", name, reason)
                return encode
            reason = f"the states of the fast one differ by {too_large[0]:.1e} in {precision}"
        except (AttributeError, RuntimeError, TypeError) as error:  # of a torch whose private operators have changed
            reason = f"the fast one fails in {precision} ({str(error).partition(chr(10))[0]})"
    if reason is None:
        return None
    if precision == "int8":
        raise Int8Error(f"{name}: {reason}")
    logger.warning("%s runs slowly, by its plain forward pass: %s", name, reason)
    return None


def _checked_lengths(encode: Encode, encoder: Any) -> Sequence[Sequence[int]]:
    """Return the tokens of the inputs of each batch that is checked."""
    if encoder.device.type == "cuda":
        return _CHECKED_LENGTHS_ON_GPUS, _CHECKED_LENGTHS_OF_BERT
    return [_CHECKED_LENGTHS_OF_BERT if isinstance(encode, Bert) else _CHECKED_LENGTHS]


@torch.inference_mode()
def _difference(encode: Encode, encoder: Any, checked_lengths: Sequence[int]) -> float:
    """Return how much the states of random inputs of these lengths in one batch differ, relative to their size."""
    lengths = [min(length, max_input_tokens(encoder)) for length in checked_lengths]
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(encoder.config.vocab_size, (len(lengths), max(lengths)), generator=generator)
    attention_mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    input_ids, attention_mask = input_ids.to(encoder.device), attention_mask.long().to(encoder.device)
    if isinstance(encoder, BertWeights):  # has no forward pass of its own
        expected = _states(Bert(encoder)(input_ids, attention_mask), attention_mask)
    else:
        output = encoder(input_ids=input_ids, attention_mask=attention_mask)
        expected = _states(output.last_hidden_state, attention_mask)
    difference = _states(encode(input_ids, attention_mask), attention_mask) - expected
    return float(difference.norm() / expected.norm())


def _states(states: Tensor, attention_mask: Tensor) -> Tensor:
    return states[attention_mask.bool()].float()
