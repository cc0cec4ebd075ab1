"""Configuration of the uni-encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gliclass_spark.errors import CheckpointError
from gliclass_spark.model.configuration.published_config import (
    PublishedConfig,
    check_pooling_for_scorer,
    check_standalone_encoder,
)


@dataclass(frozen=True, kw_only=True)
class UniEncoderConfig(PublishedConfig):
    """One encoder for labels and text together."""

    architecture_type = "uni-encoder"

    use_segment_embeddings: bool = False
    encoder_layer_id: int = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pooling_for_scorer(self)
        layers = self.encoder_config.num_hidden_layers
        if not -layers - 1 <= self.encoder_layer_id <= layers:
            raise CheckpointError(
                f"config.json has encoder_layer_id={self.encoder_layer_id}, its encoder {layers} layers"
            )
        check_standalone_encoder(self.encoder_config)

    @property
    def needs_only_last_states(self) -> bool:
        """Whether the encoder's last states are all that the model needs of it."""
        return self.encoder_layer_id == -1

    @property
    def _needs_separator(self) -> bool:
        return self.extract_text_features or self.use_segment_embeddings

    @classmethod
    def _read(cls, document: dict[str, Any]) -> dict[str, Any]:
        values = super()._read(document)
        # The one architecture whose encoder is resized to the vocabulary size in the file.
        return {**values, "vocab_size": document.get("vocab_size") or values["vocab_size"]}
