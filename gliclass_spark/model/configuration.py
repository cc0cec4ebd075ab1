"""The checkpoint's config.json: one class for each architecture."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from gliclass_spark.errors import CheckpointError
from gliclass_spark.model.encoders.backbone import read_backbone, reads_alone, write_backbone
from gliclass_spark.model.heads.pooling import POOLINGS
from gliclass_spark.model.heads.scorers import SCORERS
from gliclass_spark.model.prompts.text_tokenizer import LABEL_TOKEN, SEP_TOKEN
from gliclass_spark.model.unsupported import refuse_unsupported

MODEL_TYPE = "GLiClass"
UNI_ENCODER = "uni-encoder"
BI_ENCODER = "bi-encoder"
FUSED_BI_ENCODER = "bi-encoder-fused"
ENCODER_DECODER = "encoder-decoder"
ENCODER_DECODER_CLS = "encoder-decoder-cls"
LABEL_CACHED = "label-cached"


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """The part of a published checkpoint's config.json that shapes the model, whatever its architecture.

    `class_token_index`, `text_token_index` and `example_token_index` are the ids of `<<LABEL>>`, `<<SEP>>`
    and `<<EXAMPLE>>`. The defaults are those of the published configuration class, which leaves defaults
    out of its files.
    """

    architecture_type: ClassVar[str]

    encoder_config: PreTrainedConfig
    class_token_index: int
    text_token_index: int
    example_token_index: int = -1
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
    prompt_first: bool = False
    max_num_classes: int = 25
    max_labels_alloc: str | int = "dynamic"
    use_lstm: bool = False
    use_calibrator: bool = False
    calibrator_hidden_size: int = 256
    calibrator_beta_max: float = 3.0
    calibrator_dropout: float = 0.1
    calibrator_use_bias: bool = False

    def __post_init__(self) -> None:
        _one_of("pooling_strategy", self.pooling_strategy, POOLINGS)
        _one_of("scorer_type", self.scorer_type, SCORERS)
        _one_of("class_token_pooling", self.class_token_pooling, ("first", "average"))
        size = self.encoder_config.hidden_size
        if self.hidden_size != size and (self.scorer_type != "simple" or self.use_lstm):
            reader = "an LSTM" if self.use_lstm else f"scorer_type {self.scorer_type!r}"
            raise CheckpointError(f"config.json gives {reader} a hidden_size of {self.hidden_size}, its encoder {size}")
        if self.use_calibrator and self.pooling_strategy == "pass":
            raise CheckpointError("a calibrator reads one pooled vector, which pooling_strategy 'pass' does not give")

    @property
    def fixed_slots(self) -> int:
        """So many places for labels count in a scorer's softmax over the labels, with or without a label."""
        if self.scorer_type != "hopfield" or self.max_labels_alloc == "dynamic":
            return 0
        return self.max_labels_alloc if isinstance(self.max_labels_alloc, int) else self.max_num_classes

    @property
    def marks(self) -> dict[str, int | None]:
        """The tokens that structure an input, and their ids where the model looks for them."""
        return {LABEL_TOKEN: self.class_token_index, SEP_TOKEN: self.text_token_index if self._finds_text else None}

    @property
    def _finds_text(self) -> bool:
        return self.extract_text_features

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Read a config.json. Raises CheckpointError for an option that is not supported."""
        refuse_unsupported(document)
        return cls(**cls._read(document))

    @classmethod
    def _read(cls, document: dict[str, Any]) -> dict[str, Any]:
        encoder = read_backbone(document, "encoder_config")
        vocab_size = document.get("vocab_size") or encoder.vocab_size
        known = {field.name: document[field.name] for field in fields(cls) if document.get(field.name) is not None}
        known.update(
            encoder_config=encoder,
            vocab_size=encoder.vocab_size,
            hidden_size=document.get("hidden_size") or encoder.hidden_size,
            class_token_index=_token_index(document, "class_token_index", vocab_size),
            text_token_index=_token_index(document, "text_token_index", vocab_size + 1),
            example_token_index=_token_index(document, "example_token_index", vocab_size + 2),
        )
        return known

    def to_dict(self) -> dict[str, Any]:
        """The published layout: what `from_dict` and the `gliclass` library read."""
        return {
            "model_type": MODEL_TYPE,
            "architectures": ["GLiClassModel"],
            "architecture_type": self.architecture_type,
            "encoder_model": "",
            "problem_type": "multi_label_classification",
            **_fields(self),
        }


@dataclass(frozen=True, kw_only=True)
class UniEncoderConfig(PublishedConfig):
    """One encoder reads labels and text together."""

    architecture_type = UNI_ENCODER

    use_segment_embeddings: bool = False
    encoder_layer_id: int = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_pooled_for_scorer(self)
        layers = self.encoder_config.num_hidden_layers
        if not -layers - 1 <= self.encoder_layer_id <= layers:
            raise CheckpointError(f"config.json asks for encoder_layer_id={self.encoder_layer_id} of {layers} layers")
        _check_encoder(self.encoder_config)

    @property
    def reads_last_states_alone(self) -> bool:
        """Whether the encoder's last states of plain token ids are all that is read of it."""
        return self.encoder_layer_id == -1 and not self.use_segment_embeddings

    @property
    def _finds_text(self) -> bool:
        return self.extract_text_features or self.use_segment_embeddings

    @classmethod
    def _read(cls, document: dict[str, Any]) -> dict[str, Any]:
        known = super()._read(document)
        # The one architecture whose encoder is widened to a vocabulary that the file states.
        return {**known, "vocab_size": document.get("vocab_size") or known["vocab_size"]}


@dataclass(frozen=True, kw_only=True)
class BiEncoderConfig(PublishedConfig):
    """An encoder reads the texts, another one the labels. `label_model_name` is where its weights once came from."""

    architecture_type = BI_ENCODER

    label_model_config: PreTrainedConfig
    label_model_name: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_scorer_of_vectors(self)
        if self.pooling_strategy == "pass":
            raise CheckpointError(f"pooling_strategy 'pass' gives no vector, which a {self.architecture_type!r} reads")
        for config in (self.encoder_config, self.label_model_config):
            _check_encoder(config)

    @property
    def fixed_slots(self) -> int:
        return 0

    @property
    def marks(self) -> dict[str, int | None]:
        return {}

    @classmethod
    def _read(cls, document: dict[str, Any]) -> dict[str, Any]:
        return {**super()._read(document), "label_model_config": read_backbone(document, "label_model_config")}


@dataclass(frozen=True, kw_only=True)
class FusedBiEncoderConfig(BiEncoderConfig):
    """What the label encoder made of the labels stands before each text, as if it were words."""

    architecture_type = FUSED_BI_ENCODER

    @property
    def marks(self) -> dict[str, int | None]:
        return {LABEL_TOKEN: self.class_token_index, SEP_TOKEN: None}


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(PublishedConfig):
    """The encoder reads the text, the decoder the labels, which see the text and each other."""

    architecture_type = ENCODER_DECODER

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_scorer()
        if not self.encoder_config.is_encoder_decoder:
            raise CheckpointError(
                f"encoder_config.model_type {self.encoder_config.model_type!r} has no decoder, which a "
                f"{self.architecture_type!r} needs; mend config.json"
            )

    def _check_scorer(self) -> None:
        _check_pooled_for_scorer(self)

    @property
    def fixed_slots(self) -> int:
        return self.max_num_classes if self.scorer_type == "hopfield" else 0


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderClsConfig(EncoderDecoderConfig):
    """The encoder reads the labels, the decoder the text, of which its last token's state speaks. Nothing is pooled."""

    architecture_type = ENCODER_DECODER_CLS

    def _check_scorer(self) -> None:
        _check_scorer_of_vectors(self)


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
        encoder = read_backbone(document, "encoder_config")
        known = {field.name: document[field.name] for field in fields(cls) if field.name in document}
        return cls(**{**known, "encoder_config": encoder, "vocab_size": encoder.vocab_size})

    def to_dict(self) -> dict[str, Any]:
        return {
            "model_type": MODEL_TYPE,
            "architectures": ["LabelCachedModel"],
            "architecture_type": LABEL_CACHED,
            "problem_type": "multi_label_classification",
            **_fields(self),
        }


Config = PublishedConfig | LabelCachedConfig

_ARCHITECTURES: dict[str, type[Config]] = {
    UNI_ENCODER: UniEncoderConfig,
    BI_ENCODER: BiEncoderConfig,
    FUSED_BI_ENCODER: FusedBiEncoderConfig,
    ENCODER_DECODER: EncoderDecoderConfig,
    ENCODER_DECODER_CLS: EncoderDecoderClsConfig,
    LABEL_CACHED: LabelCachedConfig,
}


def read_config(folder: Path) -> Config:
    """The config.json of a checkpoint. Raises CheckpointError for what is not supported, by name."""
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
    except (AttributeError, TypeError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} describes no model that can be built ({reason}); mend it") from None


def parse_config(document: dict[str, Any]) -> Config:
    """What a config.json says. Raises CheckpointError for what is not supported, by name."""
    if document.get("model_type") != MODEL_TYPE:
        raise CheckpointError(
            f"config.json has model_type {document.get('model_type')!r}, expected {MODEL_TYPE!r}: "
            "give a GLiClass checkpoint"
        )
    architecture = document.get("architecture_type", UNI_ENCODER)
    if architecture not in _ARCHITECTURES:
        supported = " or ".join(repr(name) for name in _ARCHITECTURES)
        raise CheckpointError(f"architecture_type {architecture!r} is not supported; use a {supported} checkpoint")
    return _ARCHITECTURES[architecture].from_dict(document)


def _fields(config: Config) -> dict[str, Any]:
    document = {field.name: getattr(config, field.name) for field in fields(config)}
    document["encoder_config"] = write_backbone(config.encoder_config, config.vocab_size)
    if isinstance(config, BiEncoderConfig):
        document["label_model_config"] = write_backbone(config.label_model_config, config.label_model_config.vocab_size)
    return document


def _check_encoder(config: PreTrainedConfig) -> None:
    if not reads_alone(config):
        raise CheckpointError(
            f"model_type {config.model_type!r} has no encoder that stands alone; use a checkpoint over an encoder"
        )


def _check_scorer_of_vectors(config: PublishedConfig) -> None:
    if config.scorer_type == "cross-attn":
        raise CheckpointError(
            f"scorer_type 'cross-attn' reads every token, of which a {config.architecture_type!r} gives one vector"
        )


def _check_pooled_for_scorer(config: PublishedConfig) -> None:
    reads_tokens = config.scorer_type == "cross-attn"
    if (config.pooling_strategy == "pass") != reads_tokens:
        raise CheckpointError(
            f"pooling_strategy {config.pooling_strategy!r} does not go with scorer_type {config.scorer_type!r}: "
            "'cross-attn' reads every token ('pass'), all others read one pooled vector"
        )


def _token_index(document: dict[str, Any], key: str, otherwise: int) -> int:
    """-1 is the published way of saying 'right behind the vocabulary'."""
    index = document.get(key, -1)
    return otherwise if index == -1 else int(index)


def _one_of(key: str, value: str, allowed: Any) -> None:
    if value not in allowed:
        raise CheckpointError(f"config.json asks for {key}={value!r}; supported are {', '.join(sorted(allowed))}")
