"""Backbones: the transformers inside a checkpoint, read from config.json and built."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig

from gliclass_spark.errors import CheckpointError
from gliclass_spark.model.encoders.backbone_fields import BACKBONES, allowed_fields

# The published configuration class takes this one for a file that names none.
_DEFAULT_MODEL_TYPE = "deberta-v2"
# Published weights over these attend in both directions by a patch of another library; transformers' own are causal.
_PATCHED = ("gemma", "llama", "mistral", "qwen2")
# T5 and its kin have an encoder that can be built alone.
_ENCODER_CLASSES = {"t5": "T5EncoderModel", "mt5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}


def read_backbone(document: Mapping[str, Any], key: str) -> PreTrainedConfig:
    """Return a transformer's own configuration, from the fields of config.json that shape an encoder.

    Raises CheckpointError for one that is unknown or not supported, and what transformers raises for a wrong field.
    """
    part = dict(document.get(key) or {})
    model_type = part.get("model_type", _DEFAULT_MODEL_TYPE)
    if model_type in _PATCHED:
        raise CheckpointError(
            f"{key}.model_type {model_type!r} is a decoder, which is not supported; use a checkpoint over an encoder"
        )
    if model_type not in BACKBONES:
        raise CheckpointError(
            f"{key}.model_type {model_type!r} is not a backbone that is supported; use a checkpoint over "
            f"{', '.join(sorted(BACKBONES))}"
        )
    return AutoConfig.for_model(model_type, **allowed_fields(part, key))


def write_backbone(config: PreTrainedConfig, vocab_size: int) -> dict[str, Any]:
    """Return the part of config.json for a transformer, the inverse of `read_backbone`."""
    document = {**config.to_dict(), "vocab_size": vocab_size}
    # The encoder's path on the machine that trained it, and the precision that it was built in, say nothing here.
    for name in ("_name_or_path", "dtype"):
        document.pop(name, None)
    return document


def has_standalone_encoder(config: PreTrainedConfig) -> bool:
    """Return whether the transformer is an encoder, or has one that can be built alone."""
    return not config.is_encoder_decoder or config.model_type in _ENCODER_CLASSES


def build_encoder(config: PreTrainedConfig, vocab_size: int) -> Any:
    """Build an encoder with a vocabulary of this size, in float32."""
    import transformers  # its models, which take seconds to import, are imported when they are named

    # Before it is built, and not resized then: the vocabulary of the part may be of any size.
    config = deepcopy(config)
    config.vocab_size = vocab_size
    class_name = _ENCODER_CLASSES.get(config.model_type)
    if class_name is None:
        return _tied(transformers.AutoModel.from_config(config, dtype=torch.float32))
    return _tied(getattr(transformers, class_name)._from_config(config, dtype=torch.float32))


def build_encoder_decoder(config: PreTrainedConfig) -> Any:
    """Build an encoder-decoder, in float32."""
    from transformers import AutoModel

    return _tied(AutoModel.from_config(config, dtype=torch.float32))


def _tied(model: Any) -> Any:
    # transformers ties weights while it initializes them, which is skipped for weights that come from a file.
    model.tie_weights()
    return model
