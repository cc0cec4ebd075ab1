"""Models of the published base size with random weights: speed does not depend on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedTokenizerFast

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.model import checkpoint
from gliclass_spark.model.architectures.bi_encoder import BiEncoderModel
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.configuration import BiEncoderConfig, UniEncoderConfig
from gliclass_spark.model.prompts.text_tokenizer import LABEL_TOKEN, SEP_TOKEN
from gliclass_spark.training.from_encoder import joint_tokenizer

# The sizes of microsoft/deberta-v3-base and answerdotai/ModernBERT-base, from their config.json, but for the
# vocabulary, which is the embedded model's.
BACKBONES: dict[str, dict[str, Any]] = {
    "deberta-v2": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "relative_attention": True,
        "position_buckets": 256,
        "max_relative_positions": -1,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "modernbert": {
        "hidden_size": 768,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "intermediate_size": 1152,
        "cls_token_id": 101,
        "sep_token_id": 102,
        "bos_token_id": 101,
        "eos_token_id": 102,
    },
}
_HEADS = {
    "deberta-v2": {"scorer_type": "weighted-dot", "pooling_strategy": "avg"},
    "modernbert": {"scorer_type": "simple", "pooling_strategy": "first"},
}


def save_uni_encoder(backbone: str, folder: Path) -> str:
    """Save a uni-encoder in the published layout and return its folder."""
    tokenizer = joint_tokenizer()
    config = UniEncoderConfig(
        encoder_config=encoder_config(backbone, tokenizer),
        class_token_index=tokenizer.convert_tokens_to_ids(LABEL_TOKEN),
        text_token_index=tokenizer.convert_tokens_to_ids(SEP_TOKEN),
        vocab_size=len(tokenizer),
        hidden_size=768,
        prompt_first=True,
        **_HEADS[backbone],
    )
    torch.manual_seed(0)
    return str(checkpoint.save(UniEncoderModel(config), tokenizer, folder))


def bi_encoder(backbone: str) -> Checkpoint:
    """Return a bi-encoder whose two encoders have this backbone."""
    tokenizer = joint_tokenizer()
    config = BiEncoderConfig(
        encoder_config=encoder_config(backbone, tokenizer),
        label_model_config=encoder_config(backbone, tokenizer),
        class_token_index=tokenizer.convert_tokens_to_ids(LABEL_TOKEN),
        text_token_index=tokenizer.convert_tokens_to_ids(SEP_TOKEN),
        vocab_size=len(tokenizer),
        hidden_size=768,
        pooling_strategy="avg",
    )
    return Checkpoint(ModelRef("bi-encoder", Path(), ""), BiEncoderModel(config).eval(), tokenizer)


def encoder_config(backbone: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Return transformers' configuration of the encoder."""
    return AutoConfig.for_model(
        backbone, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **BACKBONES[backbone]
    )


def flop_count(lengths: list[int], config: Any) -> float:
    """Return the floating-point operations of an encoder's matrix products for unpadded inputs of these lengths.

    config: of transformers, of a BERT, a DeBERTa-v2 or a ModernBERT. Each term of the attention logits counts as a
    product of every token with every token that it attends to. The head is left out: it is a thousandth.
    """
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    tokens, pairs = sum(lengths), sum(length**2 for length in lengths)
    if config.model_type == "modernbert":
        near = sum(length * min(length, config.local_attention + 1) for length in lengths)
        is_local = [kind == "sliding_attention" for kind in config.layer_types]
        attention = sum(4 * hidden * (near if local else pairs) for local in is_local)
        return float(layers * 2 * tokens * (4 * hidden**2 + 3 * hidden * inner) + attention)
    terms = 2 + (len(config.pos_att_type) if config.model_type == "deberta-v2" else 0)
    return float(layers * (2 * tokens * (4 * hidden**2 + 2 * hidden * inner) + terms * 2 * pairs * hidden))
