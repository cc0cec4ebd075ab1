"""The inference engine: tokenize, batch by length, run, aggregate, restore the order."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import chain, islice
from typing import TypeVar

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import DeviceError, LabelSetError
from gliclass_spark.inference.aggregation import TextResult, aggregate, stack_results
from gliclass_spark.inference.allocator import keep_freed_memory, return_freed_memory
from gliclass_spark.inference.device import (
    Precision,
    choose_device,
    choose_precision,
    describe,
    float_precision,
)
from gliclass_spark.inference.kernels.fast_encoder import Int8Error
from gliclass_spark.inference.prefetch import prefetch
from gliclass_spark.inference.results import BAD_LABELS, Classification, FloatArray, Results, TextError, Usage
from gliclass_spark.inference.runners.batch_runner import BatchRunner, PendingLogits
from gliclass_spark.inference.runners.runner import runner_for
from gliclass_spark.inference.tokenization import TokenizedPart, tokenize
from gliclass_spark.labels import LabelSet, Tree
from gliclass_spark.model.checkpoint import Checkpoint, load
from gliclass_spark.model.prompts.prompt import Prompt

logger = logging.getLogger(__name__)

# A processor works best on batches that stay in its caches; a GPU on ones that fill it.
_MAX_BATCH_TOKENS = {"cpu": 1024, "cuda": 65536}

# Where every text has labels of its own, many texts still share them.
_CACHED_PROMPTS = 1024

Labels = LabelSet | Sequence[str] | Tree

T = TypeVar("T")


class Engine:
    """A model on a device, ready to classify.

    A text's scores do not depend on the texts beside it. A text longer than the model's window is scored in
    overlapping windows, and labels that don't fit beside a text are scored in groups: `LabelSet` says how. The engine
    owns the checkpoint from then on: its weights must not change.
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
        self.precision = choose_precision(precision, self.device)
        if max_batch_tokens is not None and max_batch_tokens < 1:
            raise DeviceError(f"max_batch_tokens must be at least 1, found {max_batch_tokens}")
        self.max_batch_tokens = max_batch_tokens or _MAX_BATCH_TOKENS.get(self.device.type, 4096)
        if self.device.type == "cpu":
            keep_freed_memory()
        try:
            self._runner = runner_for(checkpoint, self.device, self.precision)
        except Int8Error as error:
            self.precision = float_precision(self.device)
            level = logging.INFO if precision == "auto" else logging.WARNING
            logger.log(level, "%s is used instead of int8: %s", self.precision, error)
            self._runner = runner_for(checkpoint, self.device, self.precision)
        self.max_length = self._runner.max_length
        # A GPU would wait while a part is tokenized, and while its results are read; a processor does all of it itself.
        self._overlaps = self.device.type == "cuda"
        pad_id = checkpoint.tokenizer.pad_token_id or 0
        self._batches = BatchRunner(self._runner, self.device, self.max_batch_tokens, pad_id)
        self._prompt = lru_cache(maxsize=_CACHED_PROMPTS)(self._runner.tokenizer.prompt)
        logger.info("%s", self)

    @classmethod
    def from_pretrained(
        cls,
        model: str | ModelRef = "embedded",
        *,
        device: str | None = None,
        precision: Precision = "auto",
        max_batch_tokens: int | None = None,
        registry: str | None = None,
    ) -> Engine:
        """Load a model from its URI and return an engine for it.

        model: "embedded", a folder, a hub id (org/name@revision), a folder of an object store (s3://bucket/folder),
            or a registered model (models:/NAME@champion).
        device: "cpu", "cuda", "cuda:1", ...; None takes a GPU if there is one.
        precision: "float32", "bfloat16", "int8" (large layers in 8-bit integers, on processors with VNNI or AMX), or
            "auto": the first of bfloat16 and int8 that the hardware multiplies natively, else float32. `repr(engine)`
            shows the choice.
        max_batch_tokens: tokens of one forward pass at most, padding included.
        registry: MLflow tracking URI of a registered model; None takes the environment's.

        Raises ModelNotFoundError, CheckpointError, RegistryError, DeviceError.
        """
        ref = model if isinstance(model, ModelRef) else resolve_model(model, registry=registry)
        engine = cls(load(ref), device=device, precision=precision, max_batch_tokens=max_batch_tokens)
        engine._runner.free_replaced_weights()  # the checkpoint is this engine's alone
        if engine.device.type == "cpu":
            return_freed_memory()
        return engine

    def __repr__(self) -> str:
        return f"Engine({self.ref.uri!r}, {describe(self.device, self.precision)})"

    def logits(self, texts: Sequence[str | None], labels: Labels) -> FloatArray:
        """Return logits (texts, labels), float32; a row of NaN for a text that could not be scored."""
        return self.run(texts, labels).logits

    def scores(self, texts: Sequence[str | None], labels: Labels) -> FloatArray:
        """Return probabilities (texts, labels) in [0, 1], float32; a row of NaN for a text that could not be scored."""
        return self.run(texts, labels).scores

    def classify(self, texts: Sequence[str | None], labels: Labels) -> list[Classification]:
        """Return one record per text: labels over their thresholds, best first, all scores, and the error if any."""
        return self.run(texts, labels).classifications()

    def classify_each(self, texts: Sequence[str | None], label_sets: Sequence[Labels | None]) -> list[Classification]:
        """Return one record per text, each text under a label set of its own (with its prompt and examples).

        A text whose labels are invalid gets an error with the code "bad_labels". Texts with different label sets share
        batches.
        """
        [(results, _)] = self._score(self._ahead(self._tokenize_each([(texts, label_sets)])))
        return [result.classification for result in results]

    def run(self, texts: Sequence[str | None], labels: Labels) -> Results:
        """Score every text and return one row per text, in input order.

        A text that can't be scored gets an error and does not affect the others. Raises LabelSetError for labels that
        the model can't encode.
        """
        label_set = LabelSet.coerce(labels)
        [results] = self._results(self._ahead(self._tokenize([texts], label_set)), label_set)
        return results

    def stream(self, batches: Iterable[Sequence[str | None]], labels: Labels) -> Generator[Results, None, None]:
        """Yield `run`'s results for each batch, in their order.

        While the device scores, a background thread pulls and tokenizes the next texts, at most one part of a batch
        ahead, so `batches` must not depend on the calling thread. With a GPU another thread gives it the next part
        while this one reads the results of the last: two parts ahead. Errors of `batches` are raised here. Closing
        the generator ends the threads. Raises LabelSetError at once.
        """
        label_set = LabelSet.coerce(labels)
        return self._results(prefetch(self._tokenize(batches, label_set)), label_set)

    def stream_each(
        self, batches: Iterable[tuple[Sequence[str | None], Sequence[Labels | None]]]
    ) -> Generator[list[TextResult], None, None]:
        """Yield the results of each batch, every text under a label set of its own; see `stream`, `classify_each`."""
        for results, _ in self._score(prefetch(self._tokenize_each(batches))):
            yield results

    def _tokenize(
        self, batches: Iterable[Sequence[str | None]], label_set: LabelSet
    ) -> Generator[TokenizedPart, None, None]:
        prompt = self._prompt(label_set)  # not inside the generator: invalid labels are raised at once
        return (
            part for texts in batches for part in tokenize(_texts(texts), [prompt] * len(texts), self._runner.tokenizer)
        )

    def _tokenize_each(
        self, batches: Iterable[tuple[Sequence[str | None], Sequence[Labels | None]]]
    ) -> Generator[TokenizedPart, None, None]:
        for texts, label_sets in batches:
            prompts = [self._prompt_or_error(labels) for labels in label_sets]
            yield from tokenize(_texts(texts), prompts, self._runner.tokenizer)

    def _prompt_or_error(self, labels: Labels | None) -> Prompt | TextError:
        try:
            return self._prompt(LabelSet.coerce(labels if labels is not None else []))
        except LabelSetError as error:
            return TextError(BAD_LABELS, str(error))

    def _results(
        self, parts: Generator[TokenizedPart, None, None], label_set: LabelSet
    ) -> Generator[Results, None, None]:
        for results, usage in self._score(parts):
            yield stack_results(results, label_set, usage)

    def _score(
        self, parts: Generator[TokenizedPart, None, None]
    ) -> Generator[tuple[list[TextResult], Usage], None, None]:
        """Yield the results of each batch, in the order of its texts, with the batch's usage."""
        results: list[TextResult] = []
        usage = Usage()
        with closing(parts), closing(self._ahead(self._start(parts))) as started_parts:
            for part, pending in started_parts:
                started = time.perf_counter()
                logits = iter(pending.result())
                part_results = [aggregate(text, list(islice(logits, text.input_count))) for text in part.texts]
                results += part_results
                seconds = part.seconds + time.perf_counter() - started
                errors = sum(result.error is not None for result in part_results)
                usage += pending.usage + Usage(texts=len(part_results), errors=errors, seconds=seconds)
                if part.ends_batch:
                    yield results, usage
                    results, usage = [], Usage()

    def _start(
        self, parts: Generator[TokenizedPart, None, None]
    ) -> Generator[tuple[TokenizedPart, PendingLogits], None, None]:
        """Yield each part with its pending logits."""
        for part in parts:
            inputs = chain.from_iterable(text.inputs for text in part.texts)
            yield part, self._batches.start(list(inputs))

    def _ahead(self, items: Generator[T, None, None]) -> Generator[T, None, None]:
        return prefetch(items) if self._overlaps else items


def _texts(texts: Sequence[str | None]) -> Sequence[str | None]:
    """Return the texts. Raises TypeError for a string, which is a sequence of strings, too."""
    if isinstance(texts, str):
        raise TypeError(f"texts must be a list of texts, found the text {texts[:40]!r}; put it into a list")
    return texts
