"""Backbones: the transformers inside a checkpoint, read from config.json and built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from gliclass_spark.errors import CheckpointError

# The published configuration class takes this one for a file that names none.
_DEFAULT_MODEL_TYPE = "deberta-v2"
# Published weights over these attend in both directions by a patch of another library; transformers' own are causal.
_PATCHED = ("gemma", "llama", "mistral", "qwen2")
# T5 and its kin have an encoder that can be built alone.
_ENCODER_CLASSES = {"t5": "T5EncoderModel", "mt5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}


def read_backbone(document: Mapping[str, Any], key: str) -> PreTrainedConfig:
    """Return a transformer's own configuration, from its part of config.json.

    Raises CheckpointError for one that is unknown or not supported, and what transformers raises for a wrong field.
    """
    fields = dict(document.get(key) or {})
    model_type = fields.pop("model_type", _DEFAULT_MODEL_TYPE)
    if model_type not in CONFIG_MAPPING:
        raise CheckpointError(
            f"{key}.model_type {model_type!r} is not a backbone that this version of transformers knows"
        )
    if model_type in _PATCHED:
        raise CheckpointError(
            f"{key}.model_type {model_type!r} is a decoder, which is not supported; use a checkpoint over an encoder"
        )
    return AutoConfig.for_model(model_type, **fields)


def write_backbone(config: PreTrainedConfig, vocab_size: int) -> dict[str, Any]:
    """Return the part of config.json for a transformer, the inverse of `read_backbone`."""
    document = {**config.to_dict(), "vocab_size": vocab_size}
    # The encoder's path on the machine that trained it is of no use to others.
    document.pop("_name_or_path", None)
    return document


def has_standalone_encoder(config: PreTrainedConfig) -> bool:
    """Return whether the transformer is an encoder, or has one that can be built alone."""
    return not config.is_encoder_decoder or config.model_type in _ENCODER_CLASSES


def build_encoder(config: PreTrainedConfig, vocab_size: int) -> Any:
    """Build an encoder with a vocabulary of this size, in float32."""
    import transformers  # its models, which take seconds to import, are imported when they are named

    class_name = _ENCODER_CLASSES.get(config.model_type)
    if class_name is None:
        encoder = transformers.AutoModel.from_config(config, dtype=torch.float32)
    else:
        encoder = getattr(transformers, class_name)._from_config(config, dtype=torch.float32)
    if encoder.config.vocab_size != vocab_size:
        encoder.resize_token_embeddings(vocab_size, mean_resizing=False)
    return _tied(encoder)


def build_encoder_decoder(config: PreTrainedConfig) -> Any:
    """Build an encoder-decoder, in float32."""
    from transformers import AutoModel

    return _tied(AutoModel.from_config(config, dtype=torch.float32))


def _tied(model: Any) -> Any:
    # transformers ties weights while it initializes them, which is skipped for weights that come from a file.
    model.tie_weights()
    return model
