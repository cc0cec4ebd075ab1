"""The engine: tokenise, bucket by length, run, restore the order."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from transformers import PreTrainedModel

from gliclass_spark.errors import DeviceError
from gliclass_spark.inference.batching import micro_batches, text_groups
from gliclass_spark.inference.device import Precision, choose_device, choose_precision, describe
from gliclass_spark.inference.packed_bert import PackedBert
from gliclass_spark.inference.results import (
    EMPTY_TEXT,
    MAX_TEXT_CHARS,
    NULL_TEXT,
    OUT_OF_MEMORY,
    TEXT_TOO_LONG,
    UNDECODABLE_TEXT,
    Classification,
    FloatArray,
    Results,
    TextError,
    Usage,
)
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.checkpoint import Checkpoint, ModelRef, load, resolve
from gliclass_spark.model.prompt import PromptBuilder

logger = logging.getLogger(__name__)

# A processor works best on batches that stay in its caches; a GPU on ones that fill it.
_MAX_BATCH_TOKENS = {"cpu": 1024, "cuda": 65536}
# Texts are tokenised and sorted in groups of this size: enough to find neighbours of like length, and
# little enough to hold all of their tokens in memory.
_GROUP_TEXTS = 8192
_GROUP_CHARS = 16_000_000
_DEFAULT_WINDOW = 512

Labels = LabelSet | Sequence[str]


class Engine:
    """A model on a device, ready to classify.

    A text's scores do not depend on the texts beside it. Texts longer than the model's window are
    read up to its end. The checkpoint is the engine's from then on: its weights must not change.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str | None = None,
        precision: Precision = "auto",
        max_batch_tokens: int | None = None,
    ) -> None:
        self.ref = checkpoint.ref
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        if max_batch_tokens is not None and max_batch_tokens < 1:
            raise DeviceError(f"max_batch_tokens must be at least 1, found {max_batch_tokens}")
        self.max_batch_tokens = max_batch_tokens or _MAX_BATCH_TOKENS.get(self.device.type, 4096)
        self._model = checkpoint.model.to(self.device)
        # The heads stay in float32: they cost next to nothing, and the scores are rounded once less.
        self._model.encoder_model.to(self.dtype)
        config = self._model.config
        self._encode = None if config.use_segment_embeddings else PackedBert.of(self._model.encoder_model)
        self.max_length = _window(self._model.encoder_model)
        self._pad_id = checkpoint.tokenizer.pad_token_id or 0
        self._builder = PromptBuilder(
            checkpoint.tokenizer, prompt_first=config.prompt_first, max_length=self.max_length
        )
        self._prompt = lru_cache(maxsize=64)(self._builder.prompt)
        logger.info("%s", self)

    @classmethod
    def from_pretrained(
        cls,
        model: str | ModelRef = "embedded",
        *,
        device: str | None = None,
        precision: Precision = "auto",
        max_batch_tokens: int | None = None,
    ) -> Engine:
        """Load "embedded", a folder or a hub id.

        `device` None takes a GPU if there is one. `precision` "auto" takes bfloat16 where the hardware
        multiplies it natively, float32 elsewhere; `repr(engine)` says which. `max_batch_tokens` bounds
        the tokens, padding included, that run at once. Raises ModelNotFoundError, CheckpointError,
        DeviceError.
        """
        ref = model if isinstance(model, ModelRef) else resolve(model)
        return cls(load(ref), device=device, precision=precision, max_batch_tokens=max_batch_tokens)

    def __repr__(self) -> str:
        return f"Engine({self.ref.uri!r}, {describe(self.device, self.dtype)})"

    def logits(self, texts: Sequence[str | None], labels: Labels) -> FloatArray:
        """Logits (texts, labels), float32; a row of NaN where a text could not be scored."""
        return self.run(texts, labels).logits

    def scores(self, texts: Sequence[str | None], labels: Labels) -> FloatArray:
        """Probabilities (texts, labels), float32; a row of NaN where a text could not be scored."""
        return self.run(texts, labels).scores

    def classify(self, texts: Sequence[str | None], labels: Labels) -> list[Classification]:
        """One record a text: labels over their thresholds, best first, all scores, and the error if any."""
        return self.run(texts, labels).classifications()

    def run(self, texts: Sequence[str | None], labels: Labels) -> Results:
        """Score every text. Keeps the order; a text that can't be scored gets an error, never stops the rest.

        Raises LabelSetError for labels that can't be asked of this model.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts must be a list of texts, found the text {texts[:40]!r}; put it into a list")
        label_set = LabelSet.coerce(labels)
        prompt = self._prompt(label_set)
        started = time.perf_counter()
        logits = np.full((len(texts), len(label_set)), np.nan, dtype=np.float32)
        token_counts = np.zeros(len(texts), dtype=np.int32)
        errors: list[TextError | None] = [_check(text) for text in texts]
        usage = Usage(texts=len(texts))
        readable = [position for position, error in enumerate(errors) if error is None]
        lengths = [len(texts[position] or "") for position in readable]
        for group in text_groups(lengths, _GROUP_TEXTS, _GROUP_CHARS):
            positions = readable[group.start : group.stop]
            found = self._builder.text_ids([texts[position] or "" for position in positions], prompt)
            inputs: dict[int, list[int]] = {}
            for position, ids in zip(positions, found, strict=True):
                token_counts[position] = prompt.token_count(ids)
                if token_counts[position] > 0:
                    inputs[position] = prompt.wrap(ids)
                else:
                    errors[position] = EMPTY_TEXT
            usage += self._score(inputs, logits, errors)
        failed = np.array([error is not None for error in errors], dtype=bool)
        usage += Usage(errors=int(failed.sum()), seconds=time.perf_counter() - started)
        chunk_counts = np.where(failed, 0, 1).astype(np.int32)
        return Results(label_set, logits, token_counts, chunk_counts, tuple(errors), usage)

    def _score(self, inputs: dict[int, list[int]], logits: FloatArray, errors: list[TextError | None]) -> Usage:
        """Fill in the rows of `inputs`. A batch that the device has no memory for is run in halves."""
        positions = list(inputs)
        lengths = [len(inputs[position]) for position in positions]
        waiting = list(micro_batches(lengths, self.max_batch_tokens))
        waiting.reverse()
        usage = Usage()
        while waiting:
            batch = waiting.pop()
            rows = [positions[index] for index in batch.positions]
            try:
                logits[rows] = self._forward([inputs[row] for row in rows], batch.tokens)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                if len(rows) > 1:
                    waiting += reversed(batch.halves(lengths))
                else:
                    errors[rows[0]] = OUT_OF_MEMORY
                continue
            tokens = sum(len(inputs[row]) for row in rows)
            usage += Usage(tokens=tokens, padding=batch.tokens * len(rows) - tokens)
        return usage

    @torch.inference_mode()
    def _forward(self, inputs: list[list[int]], tokens: int) -> FloatArray:
        input_ids = np.full((len(inputs), tokens), self._pad_id, dtype=np.int64)
        attention_mask = np.zeros((len(inputs), tokens), dtype=np.int64)
        for row, ids in enumerate(inputs):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        logits = self._model(
            torch.from_numpy(input_ids).to(self.device), torch.from_numpy(attention_mask).to(self.device), self._encode
        )
        found: FloatArray = logits.float().cpu().numpy()
        return found


def _window(encoder: PreTrainedModel) -> int:
    """The tokens that an encoder reads at once."""
    positions = int(getattr(encoder.config, "max_position_embeddings", 0) or _DEFAULT_WINDOW)
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    # RoBERTa and its kin count positions from behind the padding token's.
    unused = getattr(table, "padding_idx", None)
    return positions if unused is None else positions - unused - 1


def _check(text: object) -> TextError | None:
    """What is wrong with a text before a tokenizer sees it."""
    if not isinstance(text, str):
        return NULL_TEXT  # pandas says null as NaN, too
    if not text or text.isspace():
        return EMPTY_TEXT
    if len(text) > MAX_TEXT_CHARS:
        return TEXT_TOO_LONG
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return UNDECODABLE_TEXT
    return None
