"""How many tokens a model reads at once."""

from __future__ import annotations

from typing import Any

from torch import nn

# Encoders that only know how far two tokens are apart have no limit of their own: this is what the published
# pipeline reads of a text unless it is told otherwise.
_RELATIVE_WINDOW = 1024


def max_input_tokens(encoder: Any) -> int:
    """Special tokens included. `encoder`: one of transformers' models, or `BertWeights`."""
    positions = int(getattr(encoder.config, "max_position_embeddings", 0) or 0)
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if not positions or (table is None and getattr(encoder.config, "relative_attention", False)):
        return _RELATIVE_WINDOW
    # RoBERTa and its kin count positions from behind the padding token's.
    unused = table.padding_idx if isinstance(table, nn.Embedding) else None
    return positions if unused is None else positions - unused - 1
