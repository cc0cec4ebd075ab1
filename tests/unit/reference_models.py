"""Small random GLiClass checkpoints that the reference library (`gliclass`) builds, runs and saves.

The unit tests compare with them, and `benchmarks/reference_matrix.py` with all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from gliclass import GLiClassModel as ReferenceModel
from gliclass import GLiClassModelConfig as ReferenceConfig
from gliclass import ZeroShotClassificationPipeline
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.initialization import no_init_weights

from gliclass_spark.model import location
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.configuration import GLiClassConfig
from gliclass_spark.model.modeling import GLiClassModel
from gliclass_spark.training.from_encoder import joint_tokenizer

TOLERANCE = 1e-5  # between two logits, float32

_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
BACKBONES: dict[str, dict[str, Any]] = {
    "bert": _SMALL,
    "deberta-v2": {
        **_SMALL,
        "relative_attention": True,
        "position_buckets": 16,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    # Layers 0 and 2 would attend to everything: with two layers both kinds of attention are there.
    "modernbert": {
        **_SMALL,
        "global_attn_every_n_layers": 2,
        "local_attention": 16,
        "cls_token_id": 101,
        "sep_token_id": 102,
        "bos_token_id": 101,
        "eos_token_id": 102,
    },
}
# Counts its positions from behind the padding token's: a window of 512 takes 514.
ROBERTA = {**_SMALL, "max_position_embeddings": 514, "pad_token_id": 1}
POOLED = ("first", "last", "max", "avg", "sum", "rms", "abs_max", "abs_avg")
SCORERS = ("simple", "weighted-dot", "mlp", "hopfield")
# Which scorer reads what which pooling gives.
HEADS = (*product(POOLED, SCORERS), ("pass", "cross-attn"))
CLASS_TOKEN_POOLINGS = ("first", "average")
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "text first": {"prompt_first": False},
    "text features": {"extract_text_features": True},
    "no class token": {"embed_class_token": False},
    "segments": {"use_segment_embeddings": True},
    "normalised": {"normalize_features": True},
    "text features, no class token": {"extract_text_features": True, "embed_class_token": False},
    "all, text first": {
        "extract_text_features": True,
        "embed_class_token": False,
        "use_segment_embeddings": True,
        "normalize_features": True,
        "prompt_first": False,
    },
}

# The fields of config.json that the published checkpoints set, and the backbone that they set them for.
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "edge-v3": ("modernbert", {"scorer_type": "mlp", "pooling_strategy": "first"}),
    "modern-v3": ("modernbert", {"scorer_type": "simple", "pooling_strategy": "first"}),
    "base-v3": ("deberta-v2", {"scorer_type": "weighted-dot", "pooling_strategy": "avg"}),
    "instruct-edge": (
        "modernbert",
        {
            "scorer_type": "mlp",
            "pooling_strategy": "first",
            "class_token_pooling": "average",
            "use_segment_embeddings": True,
        },
    ),
    "multilang-edge": (
        "modernbert",
        {"scorer_type": "cross-attn", "pooling_strategy": "pass", "extract_text_features": True},
    ),
}


@dataclass(frozen=True)
class Cell:
    """One configuration of the matrix. `changes` are the fields of config.json that differ from the defaults."""

    backbone: str
    pooling: str
    scorer: str
    class_token_pooling: str
    option: str

    @property
    def changes(self) -> dict[str, Any]:
        return {
            "pooling_strategy": self.pooling,
            "scorer_type": self.scorer,
            "class_token_pooling": self.class_token_pooling,
            **OPTIONS[self.option],
        }

    def __str__(self) -> str:
        return f"{self.backbone}-{self.pooling}-{self.scorer}-{self.class_token_pooling}-{self.option}"


def cells() -> Iterator[Cell]:
    """The whole matrix."""
    for backbone, (pooling, scorer), class_token_pooling, option in product(
        BACKBONES, HEADS, CLASS_TOKEN_POOLINGS, OPTIONS
    ):
        yield Cell(backbone, pooling, scorer, class_token_pooling, option)


@dataclass(frozen=True)
class Reference:
    """The reference library's model, and the folder that the library saved it in, if it did."""

    model: ReferenceModel
    folder: Path | None = None

    def input_ids(self, text: str, labels: tuple[str, ...], prompt: str | None = None) -> list[int]:
        """What the reference's pipeline gives its model for one text."""
        pipeline = ZeroShotClassificationPipeline(
            self.model, tokenizer(), max_length=512, device="cpu", progress_bar=False
        )
        inputs = pipeline.pipe.prepare_inputs([text], list(labels), same_labels=True, prompt=prompt)
        ids: list[int] = inputs["input_ids"][0].tolist()
        return ids

    @torch.no_grad()
    def logits(self, input_ids: list[int]) -> Tensor:
        """The logits (labels,) of one unpadded input."""
        ids = torch.tensor([input_ids])
        label_count = int((ids == self.model.config.class_token_index).sum())
        output = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), max_num_classes=label_count)
        found: Tensor = output.logits[0]
        return found

    def twin(self) -> GLiClassModel:
        """Our model with the reference's config.json and weights, without a file between them."""
        ours = GLiClassModel(GLiClassConfig.from_dict(json.loads(self.model.config.to_json_string())))
        ours.load_state_dict({name.removeprefix("model."): weight for name, weight in self.model.state_dict().items()})
        return ours.eval()


@torch.inference_mode()
def logits_alone(model: GLiClassModel, input_ids: list[int]) -> Tensor:
    """Our logits (labels,) of one unpadded input."""
    ids = torch.tensor([input_ids])
    found: Tensor = model(ids, torch.ones_like(ids))[0]
    return found


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A joint model's tokenizer: it knows <<LABEL>> and <<SEP>>."""
    return joint_tokenizer()


def build(backbone: str = "bert", **changes: Any) -> Reference:
    """A random model of the reference library. `changes` are the fields of config.json that are not the defaults."""
    vocab_size = len(tokenizer())
    fields = {
        "encoder_config": {
            "model_type": backbone,
            "vocab_size": vocab_size,
            **{**BACKBONES, "roberta": ROBERTA}[backbone],
        },
        "encoder_model": "none",
        "class_token_index": vocab_size - 2,
        "text_token_index": vocab_size - 1,
        "vocab_size": vocab_size,
        "problem_type": "multi_label_classification",
        "prompt_first": True,
        "scorer_num_heads": 4,
    }
    with no_init_weights():
        model = ReferenceModel(ReferenceConfig(**{**fields, **changes})).eval()
    _randomise(model)
    return Reference(model)


def save(reference: Reference, folder: Path) -> Reference:
    """The reference's checkpoint, written by the library itself."""
    reference.model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return replace(reference, folder=folder)


@torch.no_grad()
def _randomise(model: ReferenceModel) -> None:
    """Weights that make the labels' logits differ, and biases and scales that would be missed if they were lost.

    Wide layers, and the one that reads a sum over all tokens, get smaller weights: at logits of 60 the rounding of
    float32 alone is more than the 1e-5 that is to be seen (both libraries are 2e-5 off their float64 values there).
    """
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.dim() > 1:
            weight.copy_(noise * min(0.15, weight.shape[1] ** -0.5))
        elif name.endswith("weight"):
            weight.copy_(1 + 0.05 * noise)
        elif name.endswith("bias"):
            weight.copy_(0.05 * noise)
    if model.config.pooling_strategy == "sum":
        model.model.text_projector.linear_1.weight.mul_(1 / 16)


def grown(kind: type[GLiClassModel], reference: Reference, **attributes: Any) -> Checkpoint:
    """The reference's checkpoint with a model of this kind of ours, and these attributes; same weights."""
    ref = location.resolve(str(reference.folder))
    model = reference.twin()
    model.__class__ = kind
    for name, value in attributes.items():
        setattr(model, name, value)
    return Checkpoint(ref, model, tokenizer())
