"""Context window: tokens that an encoder takes at once."""

from __future__ import annotations

from typing import Any

from torch import nn

# Encoders with relative positions have no limit of their own: this is the published pipeline's default.
_RELATIVE_WINDOW = 1024


def max_input_tokens(encoder: Any) -> int:
    """Return the tokens of one input at most, special tokens included.

    encoder: a model of transformers, or `BertWeights`.
    """
    positions = int(getattr(encoder.config, "max_position_embeddings", 0) or 0)
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if not positions or (table is None and getattr(encoder.config, "relative_attention", False)):
        return _RELATIVE_WINDOW
    # RoBERTa and its kin count positions from behind the padding token's.
    padding_idx = table.padding_idx if isinstance(table, nn.Embedding) else None
    return positions if padding_idx is None else positions - padding_idx - 1
