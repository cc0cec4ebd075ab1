"""config.json: read, checked and dispatched to its architecture's class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from gliclass_spark.errors import CheckpointError
from gliclass_spark.model.configuration.bi_encoder_config import BiEncoderConfig, FusedBiEncoderConfig
from gliclass_spark.model.configuration.encoder_decoder_config import EncoderDecoderClsConfig, EncoderDecoderConfig
from gliclass_spark.model.configuration.label_cached_config import LabelCachedConfig
from gliclass_spark.model.configuration.published_config import MODEL_TYPE, PublishedConfig
from gliclass_spark.model.configuration.uni_encoder_config import UniEncoderConfig

Config = PublishedConfig | LabelCachedConfig

_CONFIG_CLASSES: tuple[type[Config], ...] = (
    UniEncoderConfig,
    BiEncoderConfig,
    FusedBiEncoderConfig,
    EncoderDecoderConfig,
    EncoderDecoderClsConfig,
    LabelCachedConfig,
)
_ARCHITECTURES = {config_class.architecture_type: config_class for config_class in _CONFIG_CLASSES}


def read_config(folder: Path) -> Config:
    """Read the config.json of a checkpoint. Raises CheckpointError if it is invalid or not supported."""
    path = folder / "config.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no config.json; give the folder of a GLiClass checkpoint") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); fetch the checkpoint again") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} is not a JSON object; fetch the checkpoint again")
    try:
        return parse_config(document)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} describes no model that can be built ({reason}); fix it") from None


def parse_config(document: dict[str, Any]) -> Config:
    """Return a config.json's content as its architecture's class. Raises CheckpointError for what is not supported."""
    if document.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"config.json has model_type {document.get('model_type')!r}, expected {MODEL_TYPE!r}: "
            "give a GLiClass checkpoint"
        )
    architecture = document.get("architecture_type", UniEncoderConfig.architecture_type)
    if architecture not in _ARCHITECTURES:
        supported = " or ".join(repr(name) for name in _ARCHITECTURES)
        raise CheckpointError(f"architecture_type {architecture!r} is not supported; use a {supported} checkpoint")
    return _ARCHITECTURES[architecture].from_dict(document)
