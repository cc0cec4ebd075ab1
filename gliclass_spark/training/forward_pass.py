"""Forward passes for training: a batch into tensors, tensors into logits, for each architecture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.padding import pad
from gliclass_spark.labels import Label, LabelSet
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.checkpoint import Model
from gliclass_spark.model.prompts.label_cached_tokenizer import LabelCachedTokenizer
from gliclass_spark.model.prompts.prompt import Prompt
from gliclass_spark.model.prompts.text_tokenizer import TextTokenizer
from gliclass_spark.model.prompts.uni_encoder_tokenizer import UniEncoderTokenizer
from gliclass_spark.training.data.batches import TrainingBatch

_WINDOW = 512


class TrainableModel(Protocol):
    """A model with the tokenization of its training batches."""

    def inputs(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return token ids and masks for `logits`, padded on the right, with `targets`, and `weights` if any."""

    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return logits, (texts, labels), in the batch's order."""


def require_trainable(model: Model) -> UniEncoderModel | LabelCachedModel:
    """Return the model. Raises TrainingError for an architecture that is for inference only."""
    if isinstance(model, (UniEncoderModel, LabelCachedModel)):
        return model
    raise TrainingError(
        f"a model of the architecture_type {model.config.architecture_type!r} can be used for inference, but not be "
        "trained; train a 'uni-encoder' or a 'label-cached' one"
    )


def trainable_model(model: Model, tokenizer: PreTrainedTokenizerFast, max_text_tokens: int) -> TrainableModel:
    """Return the forward pass of a model, with texts truncated to `max_text_tokens` and to their share of the window.

    Raises TrainingError for an architecture that is for inference only.
    """
    model = require_trainable(model)
    if isinstance(model, LabelCachedModel):
        return _TrainableLabelCached(model, tokenizer, max_text_tokens)
    return _TrainableUniEncoder(model, tokenizer, max_text_tokens)


class _TrainableUniEncoder:
    def __init__(self, model: UniEncoderModel, tokenizer: PreTrainedTokenizerFast, max_text_tokens: int) -> None:
        self._model = model
        self._tokenizer = UniEncoderTokenizer(tokenizer, prompt_first=model.config.prompt_first, max_length=_WINDOW)
        self._pad_id = tokenizer.pad_token_id or 0
        self._max_text_tokens = max_text_tokens

    def inputs(self, batch: TrainingBatch) -> dict[str, Tensor]:
        prompt = self._tokenizer.prompt(_label_set(batch.labels))
        texts = _text_inputs(self._tokenizer, batch, prompt, self._max_text_tokens)
        input_ids, attention_mask = _pad(texts, self._pad_id)
        # Labels beyond the window would take a second pass with another prompt: they are left out.
        label_count = len(prompt.frames[0].labels)
        return {"input_ids": input_ids, "attention_mask": attention_mask, **_targets(batch, label_count)}

    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        logits: Tensor = self._model(inputs["input_ids"], inputs["attention_mask"])
        return logits


class _TrainableLabelCached:
    def __init__(self, model: LabelCachedModel, tokenizer: PreTrainedTokenizerFast, max_text_tokens: int) -> None:
        self._model = model
        self._tokenizer = LabelCachedTokenizer(tokenizer, _WINDOW)
        self._pad_id = tokenizer.pad_token_id or 0
        self._max_text_tokens = max_text_tokens

    def inputs(self, batch: TrainingBatch) -> dict[str, Tensor]:
        label_set = _label_set(batch.labels)
        prompt = self._tokenizer.prompt(label_set)
        texts = _text_inputs(self._tokenizer, batch, prompt, self._max_text_tokens)
        input_ids, attention_mask = _pad(texts, self._pad_id)
        label_ids, label_mask = _pad([self._tokenizer.label_ids(text) for text in label_set.texts], self._pad_id)
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "label_ids": label_ids,
            "label_mask": label_mask,
            **_targets(batch, len(batch.labels)),
        }

    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        label_states = self._model.label_states(inputs["label_ids"], inputs["label_mask"])
        logits: Tensor = self._model(inputs["input_ids"], inputs["attention_mask"], label_states)
        return logits


def _targets(batch: TrainingBatch, label_count: int) -> dict[str, Tensor]:
    """Targets and weights of the first labels."""
    tensors = {"targets": torch.from_numpy(batch.targets[:, :label_count])}
    if batch.weights is not None:
        tensors["weights"] = torch.from_numpy(batch.weights[:, :label_count])
    return tensors


def _label_set(texts: Sequence[str]) -> LabelSet:
    # Not validated: a label's text with its description may be longer than a name may be.
    return LabelSet(labels=tuple(Label.model_construct(name=text) for text in texts))


def _text_inputs(
    tokenizer: TextTokenizer, batch: TrainingBatch, prompt: Prompt, max_text_tokens: int
) -> list[list[int]]:
    """Token ids of the first window of each text, with the first group of labels."""
    max_tokens = prompt.max_text_tokens if batch.full_window else min(max_text_tokens, prompt.max_text_tokens)
    return [prompt.frames[0].input_ids(ids[:max_tokens]) for ids in tokenizer.text_ids(batch.texts, repeat(prompt))]


def _pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    return pad(rows, max(map(len, rows)), pad_id, torch.device("cpu"))
