"""BERT's weights under the names of transformers' BertModel, for `bert.Bert` to compute with.

Importing transformers' own models takes longer than importing torch: every command, and every Python worker of Spark,
would wait for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig


def is_plain_bert(config: PreTrainedConfig) -> bool:
    """Return whether `bert.Bert` computes what transformers' BertModel does."""
    absolute = getattr(config, "position_embedding_type", None) in (None, "absolute")
    return bool(config.model_type == "bert" and config.hidden_act == "gelu" and not config.is_decoder and absolute)


class BertWeights(nn.Module):
    """All weights of a BERT, random until loaded. The pooler is not used: checkpoints hold it."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        size, epsilon = config.hidden_size, config.layer_norm_eps
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": _Embedding(config.vocab_size, size, padding_idx=config.pad_token_id),
                "position_embeddings": _Embedding(config.max_position_embeddings, size),
                "token_type_embeddings": _Embedding(config.type_vocab_size, size),
                "LayerNorm": nn.LayerNorm(size, epsilon),
            }
        )
        layers = nn.ModuleList(_layer(size, config.intermediate_size, epsilon) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": layers})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(size, size)})

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings, as the method of transformers' models does."""
        return self.embeddings["word_embeddings"]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self._words.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return self._words.dtype

    @property
    def _words(self) -> Tensor:
        words = self.embeddings["word_embeddings"].weight
        assert isinstance(words, Tensor)  # noqa: S101
        return words


class _Embedding(nn.Embedding):
    def reset_parameters(self) -> None:
        """Draw the weights, except on the meta device: there torch would import its compiler, to draw nothing."""
        if not self.weight.is_meta:
            super().reset_parameters()


def _layer(size: int, intermediate_size: int, epsilon: float) -> nn.ModuleDict:
    def output(inputs: int) -> nn.ModuleDict:
        return nn.ModuleDict({"dense": nn.Linear(inputs, size), "LayerNorm": nn.LayerNorm(size, epsilon)})

    attention = nn.ModuleDict({name: nn.Linear(size, size) for name in ("query", "key", "value")})
    return nn.ModuleDict(
        {
            "attention": nn.ModuleDict({"self": attention, "output": output(size)}),
            "intermediate": nn.ModuleDict({"dense": nn.Linear(size, intermediate_size)}),
            "output": output(intermediate_size),
        }
    )
