"""Small random GLiClass checkpoints that the reference library (`gliclass`) builds, runs and saves.

The unit tests compare with them, and `benchmarks/reference_matrix.py` with all of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from gliclass import GLiClassModel as ReferenceModel
from gliclass import GLiClassModelConfig as ReferenceConfig
from gliclass import ZeroShotClassificationPipeline
from reference_cells import BACKBONES, ENCODER_DECODERS, ENCODERS
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast
from transformers.initialization import no_init_weights

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.model.architectures.bi_encoder import BiEncoderModel
from gliclass_spark.model.checkpoint import Checkpoint, Model, build_model
from gliclass_spark.model.configuration import parse_config
from gliclass_spark.model.heads.label_vectors import LabelVectors
from gliclass_spark.model.prompts.text_tokenizer import EXAMPLE_TOKEN, LABEL_TOKEN, SEP_TOKEN
from gliclass_spark.training.from_encoder import joint_tokenizer

TOLERANCE = 1e-5  # between two logits, float32

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
class Reference:
    """The reference library's model, and the folder that the library saved it in, if it did."""

    model: ReferenceModel
    folder: Path | None = None
    reads_examples: bool = False

    @cached_property
    def pipeline(self) -> ZeroShotClassificationPipeline:
        known = tokenizer(self.reads_examples)
        return ZeroShotClassificationPipeline(self.model, known, max_length=512, device="cpu", progress_bar=False)

    def asked(
        self,
        text: str,
        labels: tuple[str, ...],
        prompt: str | None = None,
        examples: Sequence[dict[str, Any]] | None = None,
    ) -> dict[str, Tensor]:
        """What the reference's pipeline gives its model for one text."""
        inputs = self.pipeline.pipe.prepare_inputs(
            [text], list(labels), same_labels=True, prompt=prompt, examples=examples
        )
        return {name: inputs[name] for name in inputs if name != "token_type_ids"}

    def input_ids(self, text: str, labels: tuple[str, ...], prompt: str | None = None) -> list[int]:
        """What the reference's uni-encoder reads for one text."""
        ids: list[int] = self.asked(text, labels, prompt)["input_ids"][0].tolist()
        return ids

    @torch.no_grad()
    def answer(self, asked: dict[str, Tensor], label_count: int) -> Tensor:
        """The logits (labels,) of one text."""
        slots = {"dynamic": label_count, "fixed": None}[self.model.config.max_labels_alloc]
        # Without them the reference finds no layer but the last one.
        one = self.model.config.architecture_type == "uni-encoder" and self.model.config.encoder_layer_id != -1
        layers = {"output_hidden_states": True} if one else {}
        found: Tensor = self.model(**asked, **layers, max_num_classes=slots).logits[0, :label_count]
        return found

    def logits(self, input_ids: list[int]) -> Tensor:
        """The logits (labels,) of one unpadded input of a uni-encoder."""
        ids = torch.tensor([input_ids])
        label_count = int((ids == self.model.config.class_token_index).sum())
        return self.answer({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, label_count)

    def twin(self) -> Model:
        """Our model with the reference's config.json and weights, without a file between them."""
        with no_init_weights():
            ours = build_model(parse_config(json.loads(self.model.config.to_json_string())))
        ours.load_state_dict({name.removeprefix("model."): weight for name, weight in self.model.state_dict().items()})
        return ours.eval()


@torch.inference_mode()
def logits_alone(model: Model, input_ids: list[int]) -> Tensor:
    """Our logits (labels,) of one unpadded input of a uni-encoder."""
    ids = torch.tensor([input_ids])
    found: Tensor = model(ids, torch.ones_like(ids))[0]
    return found


@torch.inference_mode()
def answers(model: Model, asked: list[dict[str, Tensor]], padding: int = 0) -> Tensor:
    """Our logits (texts, labels) for what the reference's pipeline gives its model for each text, asked together.

    padding: so many more tokens than the longest has.
    """
    texts = [_together(asked, name, padding) for name in ("input_ids", "attention_mask")]
    if isinstance(model, BiEncoderModel):
        rows = [_label_vectors(model, each) for each in asked]
        vectors = torch.stack(rows)
        found: Tensor = model(*texts, LabelVectors(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool)))
        return found
    labels = [
        _together(asked, name, padding) for name in ("class_input_ids", "class_attention_mask") if name in asked[0]
    ]
    found = model(*texts, *labels)
    return found


def _label_vectors(model: BiEncoderModel, asked: dict[str, Tensor]) -> Tensor:
    """Each label alone: the reference's own vectors depend on the padding of its labels."""
    lengths = asked["class_attention_mask"][0].sum(dim=1).tolist()
    ids = [row[:length] for row, length in zip(asked["class_input_ids"][0], lengths, strict=True)]
    return torch.cat([model.label_vectors(row[None], torch.ones_like(row)[None]) for row in ids])


def _together(asked: list[dict[str, Tensor]], name: str, padding: int) -> Tensor:
    rows = pad_sequence([each[name][0] for each in asked], batch_first=True)
    return functional.pad(rows, (0, padding))


@cache
def tokenizer(reads_examples: bool = False) -> PreTrainedTokenizerFast:
    """A joint model's tokenizer: it knows <<LABEL>> and <<SEP>>, and <<EXAMPLE>> if asked."""
    known = joint_tokenizer()
    if reads_examples:
        known.add_tokens([EXAMPLE_TOKEN], special_tokens=True)
    return known


@cache
def tokenizer_folder() -> TemporaryDirectory[str]:
    """Holds the tokenizer, as long as this process lives."""
    folder = TemporaryDirectory()
    tokenizer().save_pretrained(folder.name)
    return folder


def build(backbone: str = "bert", *, reads_examples: bool = False, **changes: Any) -> Reference:
    """A random model of the reference library. `changes` are the fields of config.json that are not the defaults."""
    vocab_size = len(tokenizer(reads_examples))
    shape = {"model_type": backbone, "vocab_size": vocab_size, **{**ENCODERS, **ENCODER_DECODERS}[backbone]}
    fields = {
        "encoder_config": shape,
        "encoder_model": "none",
        "class_token_index": tokenizer().convert_tokens_to_ids(LABEL_TOKEN),
        "text_token_index": tokenizer().convert_tokens_to_ids(SEP_TOKEN),
        "vocab_size": vocab_size,
        "problem_type": "multi_label_classification",
        "prompt_first": True,
        "scorer_num_heads": 4,
    }
    if reads_examples:
        fields["example_token_index"] = tokenizer(reads_examples).convert_tokens_to_ids(EXAMPLE_TOKEN)
    if changes.get("architecture_type", "").startswith("bi-encoder"):
        # Of another shape than the texts', with a tokenizer that the reference's pipeline finds.
        labels = {**BACKBONES["bert"], "hidden_size": 48, "num_hidden_layers": 1, "model_type": "bert"}
        fields["label_model_config"] = {**labels, "vocab_size": vocab_size}
        fields["label_model_name"] = tokenizer_folder().name
    with no_init_weights():
        model = ReferenceModel(ReferenceConfig(**{**fields, **changes})).eval()
    model.tie_weights()
    _randomise(model)
    return Reference(model, reads_examples=reads_examples)


def save(reference: Reference, folder: Path) -> Reference:
    """The reference's checkpoint, written by the library itself."""
    reference.model.save_pretrained(folder)
    tokenizer(reference.reads_examples).save_pretrained(folder)
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
        elif "bias" in name:
            weight.copy_(0.05 * noise)
    # What a fused bi-encoder scores labels by comes straight from an encoder, and is long.
    if model.config.architecture_type == "bi-encoder-fused":
        for weight in model.model.text_projector.linear_2.parameters():
            weight.mul_(1 / 8)
    if model.config.pooling_strategy == "sum":
        model.model.text_projector.linear_1.weight.mul_(1 / 16)


def grown(kind: type[Model], reference: Reference, **attributes: Any) -> Checkpoint:
    """The reference's checkpoint with a model of this kind of ours, and these attributes; same weights."""
    ref = resolve_model(str(reference.folder))
    model = reference.twin()
    model.__class__ = kind
    for name, value in attributes.items():
        setattr(model, name, value)
    return Checkpoint(ref, model, tokenizer())
