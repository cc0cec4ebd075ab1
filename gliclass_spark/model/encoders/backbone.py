"""The transformers inside a checkpoint: which ones it names, and how they are built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from gliclass_spark.errors import CheckpointError

# A file that names none means this one: so the published configuration class reads it.
_DEFAULT = "deberta-v2"
# Published weights over these attend in both directions by a patch of another library; transformers' own are causal.
_PATCHED = ("gemma", "llama", "mistral", "qwen2")
# T5 and its kin have an encoder that stands alone.
_ENCODER_OF = {"t5": "T5EncoderModel", "mt5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}


def read_backbone(document: Mapping[str, Any], key: str) -> PreTrainedConfig:
    """A transformer's own configuration, from its part of config.json.

    Raises CheckpointError for one that is not known or not supported, and what transformers raises for a wrong field.
    """
    fields = dict(document.get(key) or {})
    model_type = fields.pop("model_type", _DEFAULT)
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
    """The inverse of `read_backbone`."""
    document = {**config.to_dict(), "vocab_size": vocab_size}
    # Where the encoder once lay on this machine is nobody else's business.
    document.pop("_name_or_path", None)
    return document


def reads_alone(config: PreTrainedConfig) -> bool:
    """Whether the transformer is an encoder, or has one that stands alone."""
    return not config.is_encoder_decoder or config.model_type in _ENCODER_OF


def build_encoder(config: PreTrainedConfig, vocab_size: int) -> Any:
    """An encoder that reads so many different tokens, in float32."""
    import transformers  # its models, which take seconds to import, are imported when they are named

    kind = _ENCODER_OF.get(config.model_type)
    if kind is None:
        encoder = transformers.AutoModel.from_config(config, dtype=torch.float32)
    else:
        encoder = getattr(transformers, kind)._from_config(config, dtype=torch.float32)
    if encoder.config.vocab_size != vocab_size:
        encoder.resize_token_embeddings(vocab_size, mean_resizing=False)
    return _tied(encoder)


def build_encoder_decoder(config: PreTrainedConfig) -> Any:
    """Encoder and decoder, in float32."""
    from transformers import AutoModel

    return _tied(AutoModel.from_config(config, dtype=torch.float32))


def _tied(model: Any) -> Any:
    # transformers ties weights when it draws random ones, which a checkpoint's model can do without.
    model.tie_weights()
    return model
