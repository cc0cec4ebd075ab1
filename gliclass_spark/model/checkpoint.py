"""The model and the tokenizer of a checkpoint, whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.initialization import no_init_weights

from gliclass_spark.errors import CheckpointError
from gliclass_spark.model import embedded
from gliclass_spark.model.configuration import GLiClassConfig, LabelCachedConfig, read_config
from gliclass_spark.model.embedded import weights as embedded_weights
from gliclass_spark.model.label_cached import LabelCachedModel
from gliclass_spark.model.location import WEIGHTS, ModelRef
from gliclass_spark.model.modeling import GLiClassModel
from gliclass_spark.model.text_tokenizer import LABEL_TOKEN, SEP_TOKEN

Model = GLiClassModel | LabelCachedModel

# Buffers that older versions of transformers wrote beside the weights; nothing is lost with them.
_IGNORED_SUFFIXES = ("position_ids",)


@dataclass(frozen=True)
class Checkpoint:
    ref: ModelRef
    model: Model
    tokenizer: PreTrainedTokenizerFast


def load(ref: ModelRef) -> Checkpoint:
    """Build the model, in evaluation mode, on the CPU, in float32.

    Every weight of the file is used and every weight of the model comes from the file; otherwise
    CheckpointError lists the difference. The tokenizer's ids are those that the model was trained with.
    """
    config = read_config(ref.folder)
    if ref.uri == embedded.NAME:
        state, tokenizer = embedded_weights.state_dict(), embedded_weights.tokenizer()
    else:
        state = _read_weights(ref.folder / WEIGHTS)
        tokenizer = _read_tokenizer(ref.folder)
    if isinstance(config, GLiClassConfig):
        _check_tokens(tokenizer, config, ref.uri)
    model = _build(config, ref.uri)
    _assign(model, state, ref.uri)
    return Checkpoint(ref, model.eval(), tokenizer)


def save(model: Model, tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> Path:
    """Write the published layout: config.json, model.safetensors, tokenizer. Gives the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {f"model.{name}": weight.contiguous() for name, weight in model.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    document = json.dumps(model.config.to_dict(), indent=2, sort_keys=True)
    (folder / "config.json").write_text(document + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder)
    return folder


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}); fetch the checkpoint again") from None
    return {
        name.removeprefix("model."): weight for name, weight in state.items() if not name.endswith(_IGNORED_SUFFIXES)
    }


def _read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{folder} holds no tokenizer.json; save the checkpoint with its fast tokenizer")
    try:
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:  # the tokenizers library raises plain Exception for a file that it can't read
        raise CheckpointError(f"{folder} holds no tokenizer that can be read: {' '.join(str(error).split())}") from None
    return tokenizer


def _check_tokens(tokenizer: PreTrainedTokenizerFast, config: GLiClassConfig, uri: str) -> None:
    expected = {LABEL_TOKEN: config.class_token_index}
    if config.extract_text_features or config.use_segment_embeddings:
        expected[SEP_TOKEN] = config.text_token_index
    vocabulary = tokenizer.get_vocab()
    for token in (LABEL_TOKEN, SEP_TOKEN):
        if token not in vocabulary:
            raise CheckpointError(f"the tokenizer has no token {token!r}; give the folder of a GLiClass checkpoint")
    for token, index in expected.items():
        if vocabulary[token] != index:
            raise CheckpointError(
                f"the tokenizer of {uri!r} reads {token!r} as {vocabulary[token]}, its config.json as {index}: "
                "they are of different models; fetch the checkpoint again"
            )


def _build(config: GLiClassConfig | LabelCachedConfig, uri: str) -> Model:
    try:
        with no_init_weights():
            return LabelCachedModel(config) if isinstance(config, LabelCachedConfig) else GLiClassModel(config)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"config.json of {uri!r} describes no model that can be built ({type(error).__name__}: {reason}); mend it"
        ) from None


def _assign(model: Model, state: dict[str, Tensor], uri: str) -> None:
    expected = model.state_dict()
    problems = [f"missing {name}" for name in expected.keys() - state.keys()]
    problems += [f"unused {name}" for name in state.keys() - expected.keys()]
    problems += [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected.keys() & state.keys()
        if expected[name].shape != state[name].shape
    ]
    if problems:
        listed = "; ".join(sorted(problems)[:8])
        raise CheckpointError(f"the weights of {uri!r} do not fit its config.json: {len(problems)} differ: {listed}")
    model.load_state_dict({name: weight.float() for name, weight in state.items()}, assign=True)
