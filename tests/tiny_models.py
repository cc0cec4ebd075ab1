"""Checkpoints of small models with random weights: their scores mean nothing, but differ from text to text."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, PreTrainedConfig

from gliclass_spark.model import checkpoint
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.configuration import LabelCachedConfig, UniEncoderConfig
from gliclass_spark.model.embedded import weights
from gliclass_spark.training.from_encoder import joint_tokenizer


def write_label_cached(folder: Path, *, text_reads_labels: bool) -> str:
    """Write a model that reads each label once, and return the folder."""
    encoder = _encoder(30522)
    torch.manual_seed(0)
    model = LabelCachedModel(LabelCachedConfig(encoder, encoder.vocab_size, text_reads_labels, 20.0, -7.0))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.2)
    return str(checkpoint.save(model.eval(), weights.tokenizer(), folder))


def write_uni_encoder(folder: Path, seed: int) -> str:
    """Write a GLiClass that reads text and labels together, with the weights of this seed, and return the folder."""
    tokenizer = joint_tokenizer()
    torch.manual_seed(seed)
    model = UniEncoderModel(
        UniEncoderConfig(
            encoder_config=_encoder(len(tokenizer)),
            class_token_index=tokenizer.convert_tokens_to_ids("<<LABEL>>"),
            text_token_index=tokenizer.convert_tokens_to_ids("<<SEP>>"),
            vocab_size=len(tokenizer),
            hidden_size=32,
            pooling_strategy="avg",
            scorer_type="mlp",
            prompt_first=True,
        )
    )
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.2)
    return str(checkpoint.save(model.eval(), tokenizer, folder))


def _encoder(vocab_size: int) -> PreTrainedConfig:
    return AutoConfig.for_model(
        "bert",
        vocab_size=vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    )
