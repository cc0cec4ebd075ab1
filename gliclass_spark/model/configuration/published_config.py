"""Configuration that all published architectures share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from transformers import PreTrainedConfig

from gliclass_spark.errors import CheckpointError
from gliclass_spark.model.configuration.unsupported_options import refuse_unsupported
from gliclass_spark.model.encoders.backbone import has_standalone_encoder, read_backbone, write_backbone
from gliclass_spark.model.encoders.backbone_fields import check_activation
from gliclass_spark.model.heads.pooling import POOLINGS
from gliclass_spark.model.heads.scorers import SCORERS
from gliclass_spark.model.prompts.text_tokenizer import LABEL_TOKEN, SEP_TOKEN

MODEL_TYPE = "GLiClass"
# Each slot is a vector for every text of a batch.
_MAX_LABEL_SLOTS = 1_000


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """The part of a published checkpoint's config.json that shapes the model, whatever its architecture.

    `class_token_index`, `text_token_index` and `example_token_index` are the ids of `<<LABEL>>`, `<<SEP>>` and
    `<<EXAMPLE>>`. The defaults are those of the published configuration class, which leaves defaults out of its files.
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
        _check_choice("pooling_strategy", self.pooling_strategy, POOLINGS)
        _check_choice("scorer_type", self.scorer_type, SCORERS)
        _check_choice("class_token_pooling", self.class_token_pooling, ("first", "average"))
        check_activation("projector_hidden_act", self.projector_hidden_act)
        if self.fixed_label_slots > _MAX_LABEL_SLOTS:
            raise CheckpointError(
                f"config.json has {str(self.fixed_label_slots)[:20]} slots for labels, at most {_MAX_LABEL_SLOTS} are "
                "supported; fix max_num_classes and max_labels_alloc"
            )
        size = self.encoder_config.hidden_size
        if self.hidden_size != size and (self.scorer_type != "simple" or self.use_lstm):
            layer = "an LSTM" if self.use_lstm else f"scorer_type {self.scorer_type!r}"
            raise CheckpointError(f"config.json gives {layer} a hidden_size of {self.hidden_size}, its encoder {size}")
        if self.use_calibrator and self.pooling_strategy == "pass":
            raise CheckpointError("a calibrator takes one pooled vector, which pooling_strategy 'pass' does not give")

    @property
    def fixed_label_slots(self) -> int:
        """Columns that a scorer's softmax over the labels always includes, with or without a label."""
        if self.scorer_type != "hopfield" or self.max_labels_alloc == "dynamic":
            return 0
        return self.max_labels_alloc if isinstance(self.max_labels_alloc, int) else self.max_num_classes

    @property
    def prompt_tokens(self) -> dict[str, int | None]:
        """The tokens that structure an input, with their ids if the model looks for them."""
        return {
            LABEL_TOKEN: self.class_token_index,
            SEP_TOKEN: self.text_token_index if self._needs_separator else None,
        }

    @property
    def _needs_separator(self) -> bool:
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
        values = {field.name: document[field.name] for field in fields(cls) if document.get(field.name) is not None}
        values.update(
            encoder_config=encoder,
            vocab_size=encoder.vocab_size,
            hidden_size=document.get("hidden_size") or encoder.hidden_size,
            class_token_index=_token_index(document, "class_token_index", vocab_size),
            text_token_index=_token_index(document, "text_token_index", vocab_size + 1),
            example_token_index=_token_index(document, "example_token_index", vocab_size + 2),
        )
        return values

    def to_dict(self) -> dict[str, Any]:
        """Return the published layout, which `from_dict` and the `gliclass` library read."""
        return {
            "model_type": MODEL_TYPE,
            "architectures": ["GLiClassModel"],
            "architecture_type": self.architecture_type,
            "encoder_model": "",
            "problem_type": "multi_label_classification",
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "encoder_config": write_backbone(self.encoder_config, self.vocab_size),
        }


def check_standalone_encoder(config: PreTrainedConfig) -> None:
    """Raise CheckpointError for a transformer whose encoder can't be built alone."""
    if not has_standalone_encoder(config):
        raise CheckpointError(
            f"model_type {config.model_type!r} has no encoder that can be built alone; use a checkpoint over an encoder"
        )


def check_vector_scorer(config: PublishedConfig) -> None:
    """Raise CheckpointError for a scorer that takes tokens, in an architecture that has one vector per text."""
    if config.scorer_type == "cross-attn":
        raise CheckpointError(
            f"scorer_type 'cross-attn' takes every token, of which a {config.architecture_type!r} gives one vector"
        )


def check_pooling_for_scorer(config: PublishedConfig) -> None:
    """Raise CheckpointError unless the pooling gives what the scorer takes: all tokens or one vector."""
    takes_tokens = config.scorer_type == "cross-attn"
    if (config.pooling_strategy == "pass") != takes_tokens:
        raise CheckpointError(
            f"pooling_strategy {config.pooling_strategy!r} does not go with scorer_type {config.scorer_type!r}: "
            "'cross-attn' takes every token ('pass'), all others take one pooled vector"
        )


def _token_index(document: dict[str, Any], key: str, default: int) -> int:
    """Return a token's id. The published files write -1 for the ids right behind the vocabulary, the default."""
    index = document.get(key, -1)
    return default if index == -1 else int(index)


def _check_choice(key: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise CheckpointError(f"config.json has {key}={value!r}; supported are {', '.join(sorted(choices))}")
