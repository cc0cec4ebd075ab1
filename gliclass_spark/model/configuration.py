"""The checkpoint's config.json: what a published GLiClass encoder asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from gliclass_spark.errors import CheckpointError
from gliclass_spark.model.pooling import POOLINGS
from gliclass_spark.model.scoring import SCORERS

MODEL_TYPE = "GLiClass"
UNI_ENCODER = "uni-encoder"
LABEL_CACHED = "label-cached"

# What the published configuration can ask for beyond a plain uni-encoder. A checkpoint that was
# trained with one of these would score wrongly without it, so it is refused by name.
_UNSUPPORTED = {
    "use_lstm": False,
    "squeeze_layers": False,
    "use_calibrator": False,
    "multimodal": False,
    "encoder_layer_id": -1,
}


@dataclass(frozen=True)
class GLiClassConfig:
    """The part of a checkpoint's config.json that shapes the model.

    `class_token_index` and `text_token_index` are the ids of `<<LABEL>>` and `<<SEP>>`. The
    defaults are those of the published configuration class, which leaves defaults out of its files.
    """

    encoder_config: PreTrainedConfig
    class_token_index: int
    text_token_index: int
    vocab_size: int
    hidden_size: int
    projector_hidden_act: str = "gelu"
    pooling_strategy: str = "first"
    class_token_pooling: str = "first"
    scorer_type: str = "simple"
    scorer_num_heads: int = 16
    scorer_mlp_hidden_size: int = 1024
    scorer_attn_dropout: float = 0.1
    dropout: float = 0.1
    logit_scale_init_value: float = 2.6592
    normalize_features: bool = False
    extract_text_features: bool = False
    embed_class_token: bool = True
    use_segment_embeddings: bool = False
    prompt_first: bool = False

    def __post_init__(self) -> None:
        _one_of("pooling_strategy", self.pooling_strategy, POOLINGS)
        _one_of("scorer_type", self.scorer_type, SCORERS)
        _one_of("class_token_pooling", self.class_token_pooling, ("first", "average"))
        reads_tokens = self.scorer_type == "cross-attn"
        if (self.pooling_strategy == "pass") != reads_tokens:
            raise CheckpointError(
                f"pooling_strategy {self.pooling_strategy!r} does not go with scorer_type {self.scorer_type!r}: "
                "'cross-attn' reads every token ('pass'), all others read one pooled vector"
            )

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> GLiClassConfig:
        """Read a config.json. Raises CheckpointError for an option that is not supported."""
        for key, supported in _UNSUPPORTED.items():
            if document.get(key, supported) != supported:
                raise CheckpointError(
                    f"config.json asks for {key}={document[key]!r}, which is not supported (only {supported!r})"
                )
        encoder = _encoder_config(document)
        vocab_size = document.get("vocab_size") or encoder.vocab_size
        known = {key: document[key] for key in cls.__dataclass_fields__ if document.get(key) is not None}
        known.update(
            encoder_config=encoder,
            vocab_size=vocab_size,
            hidden_size=document.get("hidden_size") or encoder.hidden_size,
            class_token_index=_token_index(document, "class_token_index", vocab_size),
            text_token_index=_token_index(document, "text_token_index", vocab_size + 1),
        )
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """The published layout: what `from_dict` and the `gliclass` library read."""
        return {
            "model_type": MODEL_TYPE,
            "architectures": ["GLiClassModel"],
            "architecture_type": UNI_ENCODER,
            "encoder_model": "",
            "problem_type": "multi_label_classification",
            "max_labels_alloc": "dynamic",
            **_fields(self),
        }


@dataclass(frozen=True)
class LabelCachedConfig:
    """The config.json of a model that reads each label once, alone.

    `text_reads_labels`: whether the text's tokens attend to the labels in every layer, or meet them
    only in the score.
    """

    encoder_config: PreTrainedConfig
    vocab_size: int
    text_reads_labels: bool
    logit_scale_init_value: float
    logit_offset_init_value: float

    def __post_init__(self) -> None:
        if self.text_reads_labels and self.encoder_config.model_type != "bert":
            raise CheckpointError(
                f"text_reads_labels goes with a 'bert' encoder alone, found {self.encoder_config.model_type!r}"
            )

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> LabelCachedConfig:
        """The inverse of `to_dict`. Raises TypeError for a file that lacks a field."""
        encoder = _encoder_config(document)
        known = {key: document[key] for key in cls.__dataclass_fields__ if key in document}
        return cls(**{**known, "encoder_config": encoder, "vocab_size": encoder.vocab_size})

    def to_dict(self) -> dict[str, Any]:
        return {
            "model_type": MODEL_TYPE,
            "architectures": ["LabelCachedModel"],
            "architecture_type": LABEL_CACHED,
            "problem_type": "multi_label_classification",
            **_fields(self),
        }


_ARCHITECTURES: dict[str, type[GLiClassConfig] | type[LabelCachedConfig]] = {
    UNI_ENCODER: GLiClassConfig,
    LABEL_CACHED: LabelCachedConfig,
}


def read_config(folder: Path) -> GLiClassConfig | LabelCachedConfig:
    """The config.json of a checkpoint. Raises CheckpointError for what is not supported, by name."""
    path = folder / "config.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no config.json; give the folder of a GLiClass checkpoint") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); fetch the checkpoint again") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} is not a JSON object; fetch the checkpoint again")
    if document.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"config.json has model_type {document.get('model_type')!r}, expected {MODEL_TYPE!r}: "
            "give a GLiClass checkpoint"
        )
    architecture = document.get("architecture_type", UNI_ENCODER)
    if architecture not in _ARCHITECTURES:
        supported = " or ".join(repr(name) for name in _ARCHITECTURES)
        raise CheckpointError(f"architecture_type {architecture!r} is not supported; use a {supported} checkpoint")
    try:
        return _ARCHITECTURES[architecture].from_dict(document)
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} describes no model that can be built ({reason}); mend it") from None


def _fields(config: GLiClassConfig | LabelCachedConfig) -> dict[str, Any]:
    document = {key: getattr(config, key) for key in config.__dataclass_fields__}
    document["encoder_config"] = {**config.encoder_config.to_dict(), "vocab_size": config.vocab_size}
    # Where the encoder once lay on this machine is nobody else's business.
    document["encoder_config"].pop("_name_or_path", None)
    return document


def _encoder_config(document: dict[str, Any]) -> PreTrainedConfig:
    """The backbone's own configuration. DeBERTa-v2 is the published default for a file that names none."""
    fields = dict(document.get("encoder_config") or {})
    model_type = fields.pop("model_type", "deberta-v2")
    if model_type not in CONFIG_MAPPING:
        raise CheckpointError(
            f"encoder_config.model_type {model_type!r} is not a backbone that this version of transformers knows"
        )
    return AutoConfig.for_model(model_type, **fields)


def _token_index(document: dict[str, Any], key: str, otherwise: int) -> int:
    """-1 is the published way of saying 'right behind the vocabulary'."""
    index = document.get(key, -1)
    return otherwise if index == -1 else int(index)


def _one_of(key: str, value: str, allowed: Any) -> None:
    if value not in allowed:
        raise CheckpointError(f"config.json asks for {key}={value!r}; supported are {', '.join(sorted(allowed))}")
