"""Choice of an encoder's fast path, and the check that it computes what the encoder does."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from gliclass_spark.inference.context_window import max_input_tokens
from gliclass_spark.inference.device import ModelPrecision
from gliclass_spark.inference.kernels.int8_linear import Int8Linear, int8_is_available
from gliclass_spark.inference.kernels.linear import ConcatenatedLinear, PackedLinear, onednn_packs
from gliclass_spark.inference.kernels.packed_bert import packed_bert
from gliclass_spark.inference.kernels.packed_deberta import packed_deberta
from gliclass_spark.inference.kernels.packed_modernbert import packed_modernbert
from gliclass_spark.model.encoders.bert import Bert, LinearFactory
from gliclass_spark.model.encoders.bert_weights import BertWeights
from gliclass_spark.model.encoders.encode import Encode

logger = logging.getLogger(__name__)

_DEVICES = ("cpu", "cuda")
# Largest difference between the states of both paths, over the size of the states.
_TOLERANCES: dict[ModelPrecision, float] = {"float32": 1e-4, "bfloat16": 5e-2, "int8": 0.25}
# Longer than the local attention of the published models, and than their shortest distance that shares a bucket.
_CHECKED_LENGTHS = (160, 40)


class Int8Error(Exception):
    """An encoder has no path in 8-bit integers, or one that is not good enough; says why in one line."""


def fast_bert(encoder: Any, precision: ModelPrecision) -> Bert | None:
    """Return a BERT's faster forward pass, or None for other encoders. Raises Int8Error.

    One that does not agree with the plain forward pass is not used, which is logged.
    """
    with torch.no_grad():
        bert = packed_bert(encoder, _int8_linear() if precision == "int8" else None)
    if bert is None:
        return None
    return bert if _agrees(bert, encoder, precision) else Bert(encoder)


def fast_encoder(encoder: Any, precision: ModelPrecision) -> Encode | None:
    """Return a faster way to an encoder's last states, or None if its own forward pass must be used.

    One that does not agree with the encoder's own forward pass is not used, which is logged. Raises Int8Error.
    """
    bert = fast_bert(encoder, precision)
    if bert is not None or encoder.device.type not in _DEVICES:
        return bert
    with torch.no_grad():
        linear = _linear(encoder, precision)
        encode = packed_deberta(encoder, linear) or packed_modernbert(encoder, linear)
    if encode is None and precision == "int8":
        raise Int8Error(f"{type(encoder).__name__} has no path in 8-bit integers")
    return encode if encode is None or _agrees(encode, encoder, precision) else None


def _linear(encoder: Any, precision: ModelPrecision) -> LinearFactory:
    if precision == "int8":
        return _int8_linear()
    return PackedLinear if onednn_packs(encoder.device, encoder.dtype) else ConcatenatedLinear


def _int8_linear() -> LinearFactory:
    if not int8_is_available():
        raise Int8Error(f"torch {torch.__version__} lacks oneDNN's products of 8-bit integers")
    return Int8Linear


def _agrees(encode: Encode, encoder: Any, precision: ModelPrecision) -> bool:
    """Return whether a fast path computes what the plain one does; logs a difference, raises Int8Error for int8."""
    difference = _difference(encode, encoder)
    if difference <= _TOLERANCES[precision]:
        return True
    if precision == "int8":
        raise Int8Error(f"the states of {type(encoder).__name__} differ by {difference:.1e} from those in float32")
    logger.warning(
        "%s runs slowly, by its plain forward pass: the states of the fast one differ by %.1e in %s",
        type(encoder).__name__,
        difference,
        precision,
    )
    return False


@torch.inference_mode()
def _difference(encode: Encode, encoder: Any) -> float:
    """Return how much the states of two random inputs in one batch differ, relative to their size."""
    lengths = [min(length, max_input_tokens(encoder)) for length in _CHECKED_LENGTHS]
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
