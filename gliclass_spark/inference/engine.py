"""The engine: tokenise, bucket by length, run, restore the order."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import islice

import torch

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import DeviceError, LabelSetError
from gliclass_spark.inference.aggregation import TextResult, aggregate, stack_results
from gliclass_spark.inference.batching import micro_batches
from gliclass_spark.inference.device import Precision, choose_device, choose_precision, describe, is_out_of_memory
from gliclass_spark.inference.padding import pad
from gliclass_spark.inference.prefetch import prefetch
from gliclass_spark.inference.results import BAD_LABELS, Classification, FloatArray, Results, TextError, Usage
from gliclass_spark.inference.runners.runner import runner_for
from gliclass_spark.inference.tokenization import ModelInput, TokenizedPart, tokenize
from gliclass_spark.labels import LabelSet, Tree
from gliclass_spark.model.checkpoint import Checkpoint, load
from gliclass_spark.model.prompts.text_tokenizer import Prompt

logger = logging.getLogger(__name__)

# A processor works best on batches that stay in its caches; a GPU on ones that fill it.
_MAX_BATCH_TOKENS = {"cpu": 1024, "cuda": 65536}

# Where every text has labels of its own, many texts still share them.
_REMEMBERED_PROMPTS = 1024

Labels = LabelSet | Sequence[str] | Tree


class Engine:
    """A model on a device, ready to classify.

    A text's scores do not depend on the texts beside it. A text longer than the model's window is read
    in windows that overlap, labels that do not fit beside a text are asked in groups: `LabelSet` says
    how. The checkpoint is the engine's from then on: its weights must not change.
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
        self._reading = runner_for(checkpoint, self.device, self.dtype)
        self.max_length = self._reading.max_length
        self._pad_id = checkpoint.tokenizer.pad_token_id or 0
        self._prompt = lru_cache(maxsize=_REMEMBERED_PROMPTS)(self._reading.tokenizer.prompt)
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
        """Load "embedded", a folder, a hub id (org/name@revision), a folder of a store (s3://bucket/folder), or
        models:/NAME@champion.

        `device` None takes a GPU if there is one. `precision` "auto" takes bfloat16 where the hardware
        multiplies it natively, float32 elsewhere; `repr(engine)` says which. `max_batch_tokens` bounds
        the tokens, padding included, that run at once. Raises ModelNotFoundError, CheckpointError,
        DeviceError.
        """
        ref = model if isinstance(model, ModelRef) else resolve_model(model)
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

    def classify_each(self, texts: Sequence[str | None], label_sets: Sequence[Labels | None]) -> list[Classification]:
        """`classify`, with a label set for each text: labels, a prompt, examples of its own.

        A text whose labels can't be asked gets an error with the code "bad_labels". Texts of different
        label sets run together.
        """
        [(answers, _)] = self._answers(self._prepared_each([(texts, label_sets)]))
        return [given.classification for given in answers]

    def run(self, texts: Sequence[str | None], labels: Labels) -> Results:
        """Score every text. Keeps the order; a text that can't be scored gets an error, never stops the rest.

        Raises LabelSetError for labels that can't be asked of this model.
        """
        label_set = LabelSet.coerce(labels)
        [found] = self._results(self._prepared([texts], label_set), label_set)
        return found

    def stream(self, batches: Iterable[Sequence[str | None]], labels: Labels) -> Generator[Results, None, None]:
        """`run` for one batch after the other: yields the results of each, in their order.

        While the device scores, a background thread takes and tokenises what comes next, at most one
        part of a batch ahead. It pulls `batches`, so these must not depend on the calling thread. An
        error of theirs is raised here. Closing the generator ends the thread. Raises LabelSetError at once.
        """
        label_set = LabelSet.coerce(labels)
        return self._results(prefetch(self._prepared(batches, label_set)), label_set)

    def stream_each(
        self, batches: Iterable[tuple[Sequence[str | None], Sequence[Labels | None]]]
    ) -> Generator[list[TextResult], None, None]:
        """`classify_each` for one batch after the other, as `stream` does it: yields an answer for each text."""
        for answers, _ in self._answers(prefetch(self._prepared_each(batches))):
            yield answers

    def _prepared(
        self, batches: Iterable[Sequence[str | None]], label_set: LabelSet
    ) -> Generator[TokenizedPart, None, None]:
        prompt = self._prompt(label_set)
        return (
            part
            for texts in batches
            for part in tokenize(_listed(texts), [prompt] * len(texts), self._reading.tokenizer)
        )

    def _prepared_each(
        self, batches: Iterable[tuple[Sequence[str | None], Sequence[Labels | None]]]
    ) -> Generator[TokenizedPart, None, None]:
        for texts, label_sets in batches:
            yield from tokenize(_listed(texts), [self._asked(labels) for labels in label_sets], self._reading.tokenizer)

    def _asked(self, labels: Labels | None) -> Prompt | TextError:
        try:
            return self._prompt(LabelSet.coerce(labels if labels is not None else []))
        except LabelSetError as error:
            return TextError(BAD_LABELS, str(error))

    def _results(
        self, parts: Generator[TokenizedPart, None, None], label_set: LabelSet
    ) -> Generator[Results, None, None]:
        """One for each batch that the parts make up."""
        for answers, usage in self._answers(parts):
            yield stack_results(answers, label_set, usage)

    def _answers(
        self, parts: Generator[TokenizedPart, None, None]
    ) -> Generator[tuple[list[TextResult], Usage], None, None]:
        """Those of each batch that the parts make up, and what they cost."""
        answers: list[TextResult] = []
        usage = Usage()
        with closing(parts):
            for part in parts:
                found, cost = self._answered(part)
                answers += found
                usage += cost
                if part.ends_batch:
                    yield answers, usage
                    answers, usage = [], Usage()

    def _answered(self, part: TokenizedPart) -> tuple[list[TextResult], Usage]:
        started = time.perf_counter()
        inputs = [text.inputs for text in part.texts]
        logits, usage = self._logits([each for asked in inputs for each in asked])
        position = iter(logits)
        answers = [
            aggregate(text, list(islice(position, len(asked)))) for text, asked in zip(part.texts, inputs, strict=True)
        ]
        seconds = part.seconds + time.perf_counter() - started
        failed = sum(found.error is not None for found in answers)
        return answers, usage + Usage(texts=len(answers), errors=failed, seconds=seconds)

    def _logits(self, inputs: Sequence[ModelInput]) -> tuple[list[FloatArray | None], Usage]:
        """Of each input's labels; None where the device has no memory for it even alone.

        A batch that it has no memory for is run in halves.
        """
        found: list[FloatArray | None] = [None] * len(inputs)
        lengths = [len(each) for each in inputs]
        waiting = list(micro_batches(lengths, self.max_batch_tokens))
        waiting.reverse()
        usage = Usage()
        while waiting:
            batch = waiting.pop()
            asked = [inputs[position] for position in batch.positions]
            logits = self._attempt(asked, batch.tokens)
            if logits is not None:
                for position, row in zip(batch.positions, logits, strict=True):
                    found[position] = row[: len(inputs[position].frame.labels)]
                tokens = sum(map(len, asked))
                usage += Usage(tokens=tokens, padding=batch.tokens * len(asked) - tokens)
            elif len(asked) > 1:
                waiting += reversed(batch.halves(lengths))
        return found, usage

    def _attempt(self, inputs: Sequence[ModelInput], tokens: int) -> FloatArray | None:
        """Their logits (inputs, most labels), or None if the device has no memory for so many."""
        try:
            return self._forward(inputs, tokens)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Not before the error is gone: it holds the frames of the failed pass, and they its tensors.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    @torch.inference_mode()
    def _forward(self, inputs: Sequence[ModelInput], tokens: int) -> FloatArray:
        input_ids, attention_mask = pad([each.ids for each in inputs], tokens, self._pad_id, self.device)
        logits = self._reading.logits(input_ids, attention_mask, [each.frame for each in inputs])
        found: FloatArray = logits.float().cpu().numpy()
        return found


def _listed(texts: Sequence[str | None]) -> Sequence[str | None]:
    if isinstance(texts, str):
        raise TypeError(f"texts must be a list of texts, found the text {texts[:40]!r}; put it into a list")
    return texts
