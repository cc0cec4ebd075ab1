"""Configuration of the label-cached architecture."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from gliclass_spark.errors import CheckpointError
from gliclass_spark.model.configuration.published_config import MODEL_TYPE
from gliclass_spark.model.encoders.backbone import read_backbone, write_backbone


@dataclass(frozen=True)
class LabelCachedConfig:
    """One encoder, which encodes each label once, alone.

    text_reads_labels: whether a text's tokens attend to the labels in every layer; if not, texts and labels meet in
    the score alone.
    """

    architecture_type: ClassVar[str] = "label-cached"

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
        """Read a config.json, the inverse of `to_dict`. Raises TypeError for a file that lacks a field."""
        encoder = read_backbone(document, "encoder_config")
        values = {field.name: document[field.name] for field in fields(cls) if field.name in document}
        return cls(**{**values, "encoder_config": encoder, "vocab_size": encoder.vocab_size})

    def to_dict(self) -> dict[str, Any]:
        """Return the content of config.json."""
        return {
            "model_type": MODEL_TYPE,
            "architectures": ["LabelCachedModel"],
            "architecture_type": self.architecture_type,
            "problem_type": "multi_label_classification",
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "encoder_config": write_backbone(self.encoder_config, self.vocab_size),
        }
