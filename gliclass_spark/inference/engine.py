"""The engine: tokenise, bucket by length, run, restore the order."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from functools import lru_cache

import numpy as np
import torch

from gliclass_spark.errors import DeviceError
from gliclass_spark.inference.batching import micro_batches
from gliclass_spark.inference.device import Precision, choose_device, choose_precision, describe, is_out_of_memory
from gliclass_spark.inference.prefetch import prefetched
from gliclass_spark.inference.prepare import Prepared, prepare
from gliclass_spark.inference.reading import padded, reading
from gliclass_spark.inference.results import OUT_OF_MEMORY, Classification, FloatArray, Results, Usage
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.checkpoint import Checkpoint, load
from gliclass_spark.model.location import ModelRef, resolve

logger = logging.getLogger(__name__)

# A processor works best on batches that stay in its caches; a GPU on ones that fill it.
_MAX_BATCH_TOKENS = {"cpu": 1024, "cuda": 65536}

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
        self._reading = reading(checkpoint, self.device, self.dtype)
        self.max_length = self._reading.max_length
        self._pad_id = checkpoint.tokenizer.pad_token_id or 0
        self._prompt = lru_cache(maxsize=64)(self._reading.tokenizer.prompt)
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
        """Load "embedded", a folder, a hub id, or a registered model: models:/NAME@champion, models:/NAME/3.

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
        label_set = LabelSet.coerce(labels)
        [results] = self._results(self._prepared([texts], label_set), label_set)
        return results

    def stream(self, batches: Iterable[Sequence[str | None]], labels: Labels) -> Generator[Results, None, None]:
        """`run` for one batch after the other: yields the results of each, in their order.

        While the device scores, a background thread takes and tokenises what comes next, at most one
        part of a batch ahead. It pulls `batches`, so these must not depend on the calling thread. An
        error of theirs is raised here. Closing the generator ends the thread. Raises LabelSetError at once.
        """
        label_set = LabelSet.coerce(labels)
        return self._results(prefetched(self._prepared(batches, label_set)), label_set)

    def _prepared(
        self, batches: Iterable[Sequence[str | None]], label_set: LabelSet
    ) -> Generator[Prepared, None, None]:
        prompt = self._prompt(label_set)
        return (part for texts in batches for part in prepare(texts, self._reading.tokenizer, prompt))

    def _results(self, parts: Generator[Prepared, None, None], label_set: LabelSet) -> Generator[Results, None, None]:
        """One for each batch that the parts make up."""
        scored: list[Results] = []
        with closing(parts):
            for part in parts:
                scored.append(self._score(part, label_set))
                if part.ends_batch:
                    yield Results.joined(scored)
                    scored = []

    def _score(self, part: Prepared, label_set: LabelSet) -> Results:
        """A batch that the device has no memory for is run in halves."""
        started = time.perf_counter()
        logits = np.full((len(part.inputs), len(label_set)), np.nan, dtype=np.float32)
        errors = list(part.errors)
        rows = [row for row, error in enumerate(errors) if error is None]
        lengths = [len(part.inputs[row]) for row in rows]
        waiting = list(micro_batches(lengths, self.max_batch_tokens))
        waiting.reverse()
        usage = Usage(texts=len(errors))
        while waiting:
            batch = waiting.pop()
            batch_rows = [rows[position] for position in batch.positions]
            found = self._attempt([part.inputs[row] for row in batch_rows], batch.tokens, label_set)
            if found is not None:
                logits[batch_rows] = found
                tokens = sum(len(part.inputs[row]) for row in batch_rows)
                usage += Usage(tokens=tokens, padding=batch.tokens * len(batch_rows) - tokens)
            elif len(batch_rows) > 1:
                waiting += reversed(batch.halves(lengths))
            else:
                errors[batch_rows[0]] = OUT_OF_MEMORY
        failed = np.array([error is not None for error in errors], dtype=bool)
        usage += Usage(errors=int(failed.sum()), seconds=part.seconds + time.perf_counter() - started)
        token_counts = np.array(part.token_counts, dtype=np.int32)
        chunk_counts = np.where(failed, 0, 1).astype(np.int32)
        return Results(label_set, logits, token_counts, chunk_counts, tuple(errors), usage)

    def _attempt(self, inputs: list[list[int]], tokens: int, label_set: LabelSet) -> FloatArray | None:
        """Their logits, or None if the device has no memory for so many."""
        try:
            return self._forward(inputs, tokens, label_set)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Not before the error is gone: it holds the frames of the failed pass, and they its tensors.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    @torch.inference_mode()
    def _forward(self, inputs: list[list[int]], tokens: int, label_set: LabelSet) -> FloatArray:
        input_ids, attention_mask = padded(inputs, tokens, self._pad_id, self.device)
        logits = self._reading.logits(input_ids, attention_mask, label_set)
        found: FloatArray = logits.float().cpu().numpy()
        return found
