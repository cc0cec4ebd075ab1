"""Configuration of the encoder-decoders."""

from __future__ import annotations

from dataclasses import dataclass

from gliclass_spark.errors import CheckpointError
from gliclass_spark.model.configuration.published_config import (
    PublishedConfig,
    check_pooling_for_scorer,
    check_vector_scorer,
)


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(PublishedConfig):
    """The encoder takes the text, the decoder the labels."""

    architecture_type = "encoder-decoder"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_scorer()
        if not self.encoder_config.is_encoder_decoder:
            raise CheckpointError(
                f"encoder_config.model_type {self.encoder_config.model_type!r} has no decoder, which a "
                f"{self.architecture_type!r} needs; fix config.json"
            )

    def _check_scorer(self) -> None:
        check_pooling_for_scorer(self)

    @property
    def fixed_label_slots(self) -> int:
        """Columns that a scorer's softmax over the labels always includes, with or without a label."""
        return self.max_num_classes if self.scorer_type == "hopfield" else 0


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderClsConfig(EncoderDecoderConfig):
    """The encoder takes the labels, the decoder the text; the state of the text's last token is its vector."""

    architecture_type = "encoder-decoder-cls"

    def _check_scorer(self) -> None:
        check_vector_scorer(self)
