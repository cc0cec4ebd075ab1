"""Configuration of the bi-encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from gliclass_spark.errors import CheckpointError
from gliclass_spark.model.configuration.published_config import (
    PublishedConfig,
    check_standalone_encoder,
    check_vector_scorer,
)
from gliclass_spark.model.encoders.backbone import read_backbone, write_backbone
from gliclass_spark.model.prompts.text_tokenizer import LABEL_TOKEN, SEP_TOKEN


@dataclass(frozen=True, kw_only=True)
class BiEncoderConfig(PublishedConfig):
    """One encoder for the texts, another one for the labels.

    label_model_name: the label encoder's name on the hub, before its weights were trained further.
    """

    architecture_type = "bi-encoder"

    label_model_config: PreTrainedConfig
    label_model_name: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_vector_scorer(self)
        if self.pooling_strategy == "pass":
            raise CheckpointError(f"pooling_strategy 'pass' gives no vector, which a {self.architecture_type!r} needs")
        for config in (self.encoder_config, self.label_model_config):
            check_standalone_encoder(config)

    @property
    def fixed_label_slots(self) -> int:
        """None: the published bi-encoders score the labels alone."""
        return 0

    @property
    def prompt_tokens(self) -> dict[str, int | None]:
        """None: labels are inputs of their own."""
        return {}

    @classmethod
    def _read(cls, document: dict[str, Any]) -> dict[str, Any]:
        return {**super()._read(document), "label_model_config": read_backbone(document, "label_model_config")}

    def to_dict(self) -> dict[str, Any]:
        """Return the published layout, which `from_dict` and the `gliclass` library read."""
        labels = self.label_model_config
        return {**super().to_dict(), "label_model_config": write_backbone(labels, labels.vocab_size)}


@dataclass(frozen=True, kw_only=True)
class FusedBiEncoderConfig(BiEncoderConfig):
    """A bi-encoder whose label vectors are part of each text's input."""

    architecture_type = "bi-encoder-fused"

    @property
    def prompt_tokens(self) -> dict[str, int | None]:
        """The tokens that structure an input, with the id of the label token."""
        return {LABEL_TOKEN: self.class_token_index, SEP_TOKEN: None}
