"""Replaced weights: those of an encoder's linear layers, of which a fast pass holds copies."""

from __future__ import annotations

from typing import Any

from torch import nn

from gliclass_spark.inference.kernels.packed_deberta import PackedDeberta
from gliclass_spark.inference.kernels.packed_modernbert import PackedModernBert
from gliclass_spark.model.encoders.bert import Bert
from gliclass_spark.model.encoders.encode import Encode


def free_replaced_weights(encoder: Any, encode: Encode | None) -> None:
    """Free the weights of the encoder's linear layers if the fast pass has its own; the encoder's own pass then fails.

    encode: the fast pass, or None for an encoder without one.
    """
    copies = isinstance(encode, (PackedDeberta, PackedModernBert)) or (
        isinstance(encode, Bert) and encode.copies_weights
    )
    if copies:
        for module in encoder.modules():
            if isinstance(module, nn.Linear):
                module.to_empty(device="meta")
