"""Checkpoints: a model and its tokenizers, loaded from verified files and saved in the published layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from gliclass_spark.checkpoints import embedded_files
from gliclass_spark.checkpoints.files import LABEL_TOKENIZER, WEIGHTS, weight_files
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.errors import CheckpointError
from gliclass_spark.model.architectures.bi_encoder import BiEncoderModel, FusedBiEncoderModel
from gliclass_spark.model.architectures.encoder_decoder import EncoderDecoderClsModel, EncoderDecoderModel
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.configuration import (
    BiEncoderConfig,
    Config,
    EncoderDecoderClsConfig,
    EncoderDecoderConfig,
    FusedBiEncoderConfig,
    LabelCachedConfig,
    PublishedConfig,
    UniEncoderConfig,
    read_config,
)
from gliclass_spark.model.embedded import weights as embedded_weights
from gliclass_spark.model.encoders.bert_weights import is_plain_bert
from gliclass_spark.model.tokenizer_files import read_tokenizer

Model = UniEncoderModel | BiEncoderModel | EncoderDecoderModel | EncoderDecoderClsModel | LabelCachedModel

_MODELS: dict[type[Config], Callable[..., Model]] = {
    UniEncoderConfig: UniEncoderModel,
    BiEncoderConfig: BiEncoderModel,
    FusedBiEncoderConfig: FusedBiEncoderModel,
    EncoderDecoderConfig: EncoderDecoderModel,
    EncoderDecoderClsConfig: EncoderDecoderClsModel,
    LabelCachedConfig: LabelCachedModel,
}

# Weights outside the prefix `model.` of a published file.
_UNPREFIXED = "calibrator."
# Buffers that older versions of transformers wrote beside the weights; nothing is lost with them.
_IGNORED_SUFFIXES = ("position_ids",)

# What torch and transformers raise for a configuration that contradicts itself.
_BUILD_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model with its tokenizers.

    label_tokenizer: for architectures with a label encoder of their own; None for the others.
    """

    ref: ModelRef
    model: Model
    tokenizer: PreTrainedTokenizerFast
    label_tokenizer: PreTrainedTokenizerFast | None = None


def load(ref: ModelRef) -> Checkpoint:
    """Load a checkpoint: the model in evaluation mode, on the CPU, in float32.

    Raises CheckpointError if the files are damaged or not supported, if the tokenizer is not the model's, or, with the
    difference, unless every weight of the file is used and every weight of the model comes from the file.
    """
    config = read_config(ref.folder)
    if ref.uri == embedded_files.NAME:
        state, tokenizer = embedded_weights.state_dict(), embedded_weights.tokenizer()
    else:
        state = _read_weights(ref.folder)
        tokenizer = read_tokenizer(ref.folder)
    if isinstance(config, PublishedConfig):
        _check_tokens(tokenizer, config, ref.uri)
    _check_weights(config, state, ref.uri)
    model = _build(config, ref.uri)
    _assign(model, state)
    label_tokenizer = _label_tokenizer(ref, config, tokenizer) if isinstance(config, BiEncoderConfig) else None
    return Checkpoint(ref, model.eval(), tokenizer, label_tokenizer)


def save(
    model: Model,
    tokenizer: PreTrainedTokenizerFast,
    folder: str | Path,
    label_tokenizer: PreTrainedTokenizerFast | None = None,
) -> Path:
    """Write config.json, model.safetensors and tokenizer in the published layout, and return the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = model.state_dict(keep_vars=True)
    unique_names = dict.fromkeys(_first_names(weights).values())
    state = {_published_name(name): weights[name].detach().contiguous() for name in unique_names}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    document = json.dumps(model.config.to_dict(), indent=2, sort_keys=True)
    (folder / "config.json").write_text(document + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder)
    if label_tokenizer is not None:
        label_tokenizer.save_pretrained(folder / LABEL_TOKENIZER)
    return folder


def _published_name(name: str) -> str:
    """Return a weight's name in a published file."""
    return name if name.startswith(_UNPREFIXED) else f"model.{name}"


def build_model(config: Config) -> Model:
    """Build the model that a configuration describes, without loading weights."""
    return _MODELS[type(config)](config)


def _read_weights(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for path in (folder / name for name in weight_files(folder)):
        try:
            state |= load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path} is damaged ({error}); fetch the checkpoint again") from None
    return {
        name.removeprefix("model."): weight for name, weight in state.items() if not name.endswith(_IGNORED_SUFFIXES)
    }


def _check_tokens(tokenizer: PreTrainedTokenizerFast, config: PublishedConfig, uri: str) -> None:
    vocabulary = tokenizer.get_vocab()
    for token in config.prompt_tokens:
        if token not in vocabulary:
            raise CheckpointError(f"the tokenizer has no token {token!r}; give the folder of a GLiClass checkpoint")
    for token, index in config.prompt_tokens.items():
        if index is not None and vocabulary[token] != index:
            raise CheckpointError(
                f"the tokenizer of {uri!r} gives {token!r} the id {vocabulary[token]}, its config.json {index}: "
                "they are of different models; fetch the checkpoint again"
            )


def _label_tokenizer(
    ref: ModelRef, config: BiEncoderConfig, tokenizer: PreTrainedTokenizerFast
) -> PreTrainedTokenizerFast:
    """Return the tokenizer in the checkpoint's folder for it, or that of the texts if the vocabularies match."""
    folder = ref.folder / LABEL_TOKENIZER
    if folder.is_dir():
        return read_tokenizer(folder)
    if config.label_model_config.vocab_size in (tokenizer.vocab_size, len(tokenizer)):
        return tokenizer
    # The scores depend on its files: from anywhere else, the digest would not cover them.
    name = config.label_model_name or "the label encoder"
    raise CheckpointError(
        f"{ref.uri!r} has a label encoder of {config.label_model_config.vocab_size} tokens, and no tokenizer for it; "
        f"save that of {name} in the checkpoint, as its folder {LABEL_TOKENIZER}/: "
        f"AutoTokenizer.from_pretrained(...).save_pretrained({str(folder)!r})"
    )


def _build(config: Config, uri: str) -> Model:
    try:
        with _no_random_weights(config):
            return build_model(config)
    except _BUILD_ERRORS as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"config.json of {uri!r} describes no model that can be built ({type(error).__name__}: {reason}); fix it"
        ) from None


def _no_random_weights(config: Config) -> AbstractContextManager[Any]:
    """Return a context in which models are built without drawing weights: all of them come from the file."""
    if isinstance(config, LabelCachedConfig) and is_plain_bert(config.encoder_config):
        return nullcontext()  # the import below takes longer than drawing a BERT's weights
    from transformers.initialization import no_init_weights

    return no_init_weights()


def _check_weights(config: Config, state: Mapping[str, Tensor], uri: str) -> None:
    """Raise CheckpointError unless the weights are those of the model that a configuration describes.

    The model is built on torch's meta device, where weights have a shape and take no memory: a configuration that asks
    for more than the file holds is refused before anything of that size is allocated.
    """
    with torch.device("meta"):
        expected = _build(config, uri).state_dict(keep_vars=True)
    first_names = _first_names(expected)
    loaded = {first_names[name]: weight for name, weight in state.items() if name in first_names}
    problems = [f"missing {name}" for name in set(first_names.values()) - loaded.keys()]
    problems += [f"unused {name}" for name in state.keys() - first_names.keys()]
    problems += [
        f"{name} is {tuple(weight.shape)}, expected {tuple(expected[name].shape)}"
        for name, weight in loaded.items()
        if weight.shape != expected[name].shape
    ]
    problems += [
        f"{name} is not {first_names[name]}"
        for name, weight in state.items()
        if (first := loaded.get(first_names.get(name, ""))) is not None
        and first is not weight
        and not torch.equal(first, weight)
    ]
    if problems:
        listed = "; ".join(sorted(problems)[:8])
        raise CheckpointError(f"the weights of {uri!r} do not fit its config.json: {len(problems)} differ: {listed}")


def _assign(model: Model, state: Mapping[str, Tensor]) -> None:
    """Make a file's weights those of the model; `_check_weights` has compared them."""
    first_names = _first_names(model.state_dict(keep_vars=True))
    loaded = {first_names[name]: weight for name, weight in state.items()}
    model.load_state_dict({name: loaded[first].float() for name, first in first_names.items()}, assign=True)
    for name, first_name in first_names.items():
        if name != first_name:
            _tie(model, name, first_name)


def _first_names(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Map each name to the first name of the same weight: a model may share one, and its file use any of the names."""
    first_names: dict[int, str] = {}
    return {name: first_names.setdefault(id(weight), name) for name, weight in weights.items()}


def _tie(model: Model, name: str, first_name: str) -> None:
    """Make both names one parameter again, so that training changes both."""
    module, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(module), attribute, model.get_parameter(first_name))
