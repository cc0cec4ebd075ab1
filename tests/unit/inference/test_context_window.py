"""The context window of each kind of encoder."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig, AutoModel

from gliclass_spark.inference.context_window import max_input_tokens

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 0,
}
DEBERTA = {**SMALL, "max_position_embeddings": 512, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
TOKENS = dict.fromkeys(("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id"), 1)
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "a table of positions": ("bert", {**SMALL, "max_position_embeddings": 512}, 512),
    "a table that begins behind the padding token's": (
        "roberta",
        {**SMALL, "max_position_embeddings": 514, "pad_token_id": 1},
        512,
    ),
    "rotary positions with their trained length": (
        "modernbert",
        {**SMALL, **TOKENS, "max_position_embeddings": 8192},
        8192,
    ),
    "relative positions and a table": ("deberta-v2", DEBERTA, 512),
    "relative positions alone, as DeBERTa-v3 has them": (
        "deberta-v2",
        {**DEBERTA, "position_biased_input": False},
        1024,
    ),
    "relative positions alone, as T5 has them": ("t5", T5, 1024),
}


@pytest.mark.parametrize("case", CASES)
def test_the_window_is_that_of_the_encoders_positions(case: str) -> None:
    kind, sizes, tokens = CASES[case]
    assert max_input_tokens(AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=200, **sizes))) == tokens
