"""The checkpoint's config.json: one class for each architecture."""

from gliclass_spark.model.configuration.bi_encoder_config import BiEncoderConfig, FusedBiEncoderConfig
from gliclass_spark.model.configuration.config_file import Config, parse_config, read_config
from gliclass_spark.model.configuration.encoder_decoder_config import EncoderDecoderClsConfig, EncoderDecoderConfig
from gliclass_spark.model.configuration.label_cached_config import LabelCachedConfig
from gliclass_spark.model.configuration.published_config import PublishedConfig
from gliclass_spark.model.configuration.uni_encoder_config import UniEncoderConfig

__all__ = [
    "BiEncoderConfig",
    "Config",
    "EncoderDecoderClsConfig",
    "EncoderDecoderConfig",
    "FusedBiEncoderConfig",
    "LabelCachedConfig",
    "PublishedConfig",
    "UniEncoderConfig",
    "parse_config",
    "read_config",
]
