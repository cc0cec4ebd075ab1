"""How questions are put to each kind of model, with gradients."""

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
    def inputs(self, question: TrainingBatch) -> dict[str, Tensor]:
        """What `logits` takes: token ids and masks, padded on the right; beside it `targets`, and `weights` if any."""

    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        """(texts, labels), in the question's order."""


def trainable(model: Model) -> UniEncoderModel | LabelCachedModel:
    """The model itself. Raises TrainingError for one that can be asked but not trained."""
    if isinstance(model, (UniEncoderModel, LabelCachedModel)):
        return model
    raise TrainingError(
        f"a model of the architecture_type {model.config.architecture_type!r} can be asked, but not trained here; "
        "train a 'uni-encoder' or a 'label-cached' one"
    )


def trainable_model(model: Model, tokenizer: PreTrainedTokenizerFast, max_text_tokens: int) -> TrainableModel:
    """Texts are cut to `max_text_tokens`, a text's share of the window at most. Raises TrainingError."""
    model = trainable(model)
    if isinstance(model, LabelCachedModel):
        return _LabelCached(model, tokenizer, max_text_tokens)
    return _Joint(model, tokenizer, max_text_tokens)


class _Joint:
    def __init__(self, model: UniEncoderModel, tokenizer: PreTrainedTokenizerFast, max_text_tokens: int) -> None:
        self._model = model
        self._builder = UniEncoderTokenizer(tokenizer, prompt_first=model.config.prompt_first, max_length=_WINDOW)
        self._pad_id = tokenizer.pad_token_id or 0
        self._max_text_tokens = max_text_tokens

    def inputs(self, question: TrainingBatch) -> dict[str, Tensor]:
        prompt = self._builder.prompt(_label_set(question.labels))
        texts = _text_inputs(self._builder, question.texts, prompt, self._max_text_tokens)
        input_ids, attention_mask = _padded(texts, self._pad_id)
        # What is more than the window holds would be asked in a second pass, which is another question.
        asked = len(prompt.frames[0].labels)
        return {"input_ids": input_ids, "attention_mask": attention_mask, **_answers(question, asked)}

    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        found: Tensor = self._model(inputs["input_ids"], inputs["attention_mask"])
        return found


class _LabelCached:
    def __init__(self, model: LabelCachedModel, tokenizer: PreTrainedTokenizerFast, max_text_tokens: int) -> None:
        self._model = model
        self._tokenizer = LabelCachedTokenizer(tokenizer, _WINDOW)
        self._pad_id = tokenizer.pad_token_id or 0
        self._max_text_tokens = max_text_tokens

    def inputs(self, question: TrainingBatch) -> dict[str, Tensor]:
        label_set = _label_set(question.labels)
        prompt = self._tokenizer.prompt(label_set)
        texts = _text_inputs(self._tokenizer, question.texts, prompt, self._max_text_tokens)
        input_ids, attention_mask = _padded(texts, self._pad_id)
        label_ids, label_mask = _padded([self._tokenizer.label_ids(text) for text in label_set.texts], self._pad_id)
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "label_ids": label_ids,
            "label_mask": label_mask,
            **_answers(question, len(question.labels)),
        }

    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        states = self._model.label_states(inputs["label_ids"], inputs["label_mask"])
        found: Tensor = self._model(inputs["input_ids"], inputs["attention_mask"], states)
        return found


def _answers(question: TrainingBatch, asked: int) -> dict[str, Tensor]:
    """Of the first `asked` labels."""
    found = {"targets": torch.from_numpy(question.targets[:, :asked])}
    if question.weights is not None:
        found["weights"] = torch.from_numpy(question.weights[:, :asked])
    return found


def _label_set(texts: Sequence[str]) -> LabelSet:
    # Not validated: what a model reads of a label, its description with it, may be longer than a name.
    return LabelSet(labels=tuple(Label.model_construct(name=text) for text in texts))


def _text_inputs(
    tokenizer: TextTokenizer, texts: Sequence[str], prompt: Prompt, max_text_tokens: int
) -> list[list[int]]:
    """The first window of each text, beside the first group of labels."""
    most = min(max_text_tokens, prompt.max_text_tokens)
    return [prompt.frames[0].around(ids[:most]) for ids in tokenizer.text_ids(texts, repeat(prompt))]


def _padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    return pad(rows, max(map(len, rows)), pad_id, torch.device("cpu"))
