"""Small random GLiClass checkpoints that the reference library (`gliclass`) builds, runs and saves.

The unit tests compare with some of them, `benchmarks/numerics/reference_matrix.py` with all.
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
    """A model of the reference library, and the folder that it was saved in, if it was."""

    model: ReferenceModel
    folder: Path | None = None
    with_examples: bool = False

    @cached_property
    def pipeline(self) -> ZeroShotClassificationPipeline:
        hf_tokenizer = tokenizer(self.with_examples)
        return ZeroShotClassificationPipeline(
            self.model, hf_tokenizer, max_length=512, device="cpu", progress_bar=False
        )

    def model_inputs(
        self,
        text: str,
        labels: tuple[str, ...],
        prompt: str | None = None,
        examples: Sequence[dict[str, Any]] | None = None,
    ) -> dict[str, Tensor]:
        """Return the inputs of the reference's pipeline for one text, (1, tokens) each."""
        inputs = self.pipeline.pipe.prepare_inputs(
            [text], list(labels), same_labels=True, prompt=prompt, examples=examples
        )
        return {name: inputs[name] for name in inputs if name != "token_type_ids"}

    def input_ids(self, text: str, labels: tuple[str, ...], prompt: str | None = None) -> list[int]:
        """Return the token ids of the reference's uni-encoder for one text."""
        ids: list[int] = self.model_inputs(text, labels, prompt)["input_ids"][0].tolist()
        return ids

    @torch.no_grad()
    def forward(self, inputs: dict[str, Tensor], label_count: int) -> Tensor:
        """Return the logits (labels,) of one text."""
        slots = {"dynamic": label_count, "fixed": None}[self.model.config.max_labels_alloc]
        # Without them the reference has no layer but the last one.
        needs_layers = self.model.config.architecture_type == "uni-encoder" and self.model.config.encoder_layer_id != -1
        layers = {"output_hidden_states": True} if needs_layers else {}
        logits: Tensor = self.model(**inputs, **layers, max_num_classes=slots).logits[0, :label_count]
        return logits

    def logits(self, input_ids: list[int]) -> Tensor:
        """Return the logits (labels,) of one unpadded input of a uni-encoder."""
        ids = torch.tensor([input_ids])
        label_count = int((ids == self.model.config.class_token_index).sum())
        return self.forward({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, label_count)

    def twin(self) -> Model:
        """Return the package's model with the reference's config.json and weights, without a file between them."""
        with no_init_weights():
            model = build_model(parse_config(json.loads(self.model.config.to_json_string())))
        model.load_state_dict({name.removeprefix("model."): weight for name, weight in self.model.state_dict().items()})
        return model.eval()


@torch.inference_mode()
def single_logits(model: Model, input_ids: list[int]) -> Tensor:
    """Return the package's logits (labels,) of one unpadded input of a uni-encoder."""
    ids = torch.tensor([input_ids])
    logits: Tensor = model(ids, torch.ones_like(ids))[0]
    return logits


@torch.inference_mode()
def batch_logits(model: Model, inputs: list[dict[str, Tensor]], padding: int = 0) -> Tensor:
    """Return the package's logits (texts, labels) in one batch, for the reference pipeline's inputs of each text.

    padding: tokens of padding behind the longest input.
    """
    texts = [_batch(inputs, name, padding) for name in ("input_ids", "attention_mask")]
    if isinstance(model, BiEncoderModel):
        rows = [_label_vectors(model, row) for row in inputs]
        vectors = torch.stack(rows)
        logits: Tensor = model(*texts, LabelVectors(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool)))
        return logits
    labels = [
        _batch(inputs, name, padding) for name in ("class_input_ids", "class_attention_mask") if name in inputs[0]
    ]
    logits = model(*texts, *labels)
    return logits


def _label_vectors(model: BiEncoderModel, inputs: dict[str, Tensor]) -> Tensor:
    """Encode each label alone: the reference's own vectors depend on the padding of its labels."""
    lengths = inputs["class_attention_mask"][0].sum(dim=1).tolist()
    ids = [row[:length] for row, length in zip(inputs["class_input_ids"][0], lengths, strict=True)]
    return torch.cat([model.label_vectors(row[None], torch.ones_like(row)[None]) for row in ids])


def _batch(inputs: list[dict[str, Tensor]], name: str, padding: int) -> Tensor:
    rows = pad_sequence([row[name][0] for row in inputs], batch_first=True)
    return functional.pad(rows, (0, padding))


@cache
def tokenizer(with_examples: bool = False) -> PreTrainedTokenizerFast:
    """Return a uni-encoder's tokenizer, with <<LABEL>> and <<SEP>>, and <<EXAMPLE>> for `with_examples`."""
    hf_tokenizer = joint_tokenizer()
    if with_examples:
        hf_tokenizer.add_tokens([EXAMPLE_TOKEN], special_tokens=True)
    return hf_tokenizer


@cache
def tokenizer_folder() -> TemporaryDirectory[str]:
    """Return a folder with the tokenizer, for the lifetime of this process."""
    folder = TemporaryDirectory()
    tokenizer().save_pretrained(folder.name)
    return folder


def build(backbone: str = "bert", *, with_examples: bool = False, **changes: Any) -> Reference:
    """Build a random model of the reference library. changes: fields of config.json that differ from the defaults."""
    vocab_size = len(tokenizer(with_examples))
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
    if with_examples:
        fields["example_token_index"] = tokenizer(with_examples).convert_tokens_to_ids(EXAMPLE_TOKEN)
    if changes.get("architecture_type", "").startswith("bi-encoder"):
        # Of another shape than the texts' encoder, with a tokenizer that the reference's pipeline can load.
        labels = {**BACKBONES["bert"], "hidden_size": 48, "num_hidden_layers": 1, "model_type": "bert"}
        fields["label_model_config"] = {**labels, "vocab_size": vocab_size}
        fields["label_model_name"] = tokenizer_folder().name
    with no_init_weights():
        model = ReferenceModel(ReferenceConfig(**{**fields, **changes})).eval()
    model.tie_weights()
    _randomize(model)
    return Reference(model, with_examples=with_examples)


def save(reference: Reference, folder: Path) -> Reference:
    """Save the reference's checkpoint by the library itself, and return the reference with its folder."""
    reference.model.save_pretrained(folder)
    tokenizer(reference.with_examples).save_pretrained(folder)
    return replace(reference, folder=folder)


@torch.no_grad()
def _randomize(model: ReferenceModel) -> None:
    """Draw weights that make the labels' logits differ, with biases and scales large enough to matter.

    Wide layers, and the one behind a sum over all tokens, get smaller weights: at logits of 60 the rounding of float32
    alone exceeds the tolerance of 1e-5 (both libraries are 2e-5 off their float64 values there).
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
    # A fused bi-encoder scores unprojected label states, which are long vectors.
    if model.config.architecture_type == "bi-encoder-fused":
        for weight in model.model.text_projector.linear_2.parameters():
            weight.mul_(1 / 8)
    if model.config.pooling_strategy == "sum":
        model.model.text_projector.linear_1.weight.mul_(1 / 16)


def with_model_class(model_class: type[Model], reference: Reference, **attributes: Any) -> Checkpoint:
    """Return the reference's checkpoint with a model of this class, with these attributes and the same weights."""
    ref = resolve_model(str(reference.folder))
    model = reference.twin()
    model.__class__ = model_class
    for name, value in attributes.items():
        setattr(model, name, value)
    return Checkpoint(ref, model, tokenizer())
