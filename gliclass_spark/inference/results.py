"""Results of the engine: arrays of scores, records for people, and usage."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import passing_labels, rank_labels

# Tokenizing a text of a gigabyte would exhaust the worker's memory.
MAX_TEXT_CHARS = 10_000_000

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class TextError:
    """The reason why a text could not be scored. `code` is one of those below."""

    code: str
    message: str


NULL_TEXT = TextError("null_text", "the text is null, or no string")
EMPTY_TEXT = TextError("empty_text", "the text is empty or white space")
UNDECODABLE_TEXT = TextError("undecodable_text", "the text is not valid Unicode")
TEXT_TOO_LONG = TextError("text_too_long", f"the text has more than {MAX_TEXT_CHARS:,} characters")
BAD_LABELS = "bad_labels"  # the code; the message is that of the LabelSetError
OUT_OF_MEMORY = TextError("out_of_memory", "the device has no memory for this text, even alone")


@dataclass(frozen=True)
class ScoredLabel:
    """A label's name and its probability in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True)
class Classification:
    """One text's record.

    labels: those whose score reaches their threshold, best first; empty with an error.
    scores: probability in [0, 1] of every label, by name; empty with an error.
    token_count: tokens of the text without its prompt; 0 if it could not be tokenized.
    chunk_count: windows that the text was scored in; 0 with an error.
    """

    labels: tuple[ScoredLabel, ...]
    scores: dict[str, float]
    error: TextError | None
    token_count: int
    chunk_count: int

    def nested(self, label_set: LabelSet) -> dict[str, Any]:
        """Return the scores in the shape of the label set's tree, see `LabelSet.nested`; empty with an error."""
        return label_set.nested(self.scores)


@dataclass(frozen=True)
class Usage:
    """The cost of scoring.

    texts: with and without errors. errors: texts that could not be scored.
    tokens: of texts and prompts, computed by the device. padding: tokens that were computed in addition.
    seconds: of tokenizing plus scoring; in a stream these overlap, and both count.
    """

    texts: int = 0
    errors: int = 0
    tokens: int = 0
    padding: int = 0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.texts + other.texts,
            self.errors + other.errors,
            self.tokens + other.tokens,
            self.padding + other.padding,
            self.seconds + other.seconds,
        )

    @property
    def padding_share(self) -> float:
        """Padding over all tokens that the device computed, in [0, 1]; 0 if it computed none."""
        computed = self.tokens + self.padding
        return self.padding / computed if computed else 0.0


def probabilities(logits: FloatArray, label_set: LabelSet) -> FloatArray:
    """Return probabilities (texts, labels) in [0, 1] of logits (texts, labels); NaN stays NaN.

    Each logit is divided by its label's temperature and its label's bias is added; then a sigmoid, or for a
    single-label set a softmax over the set.
    """
    scaled = logits.astype(np.float64) / np.array(label_set.temperatures) + np.array(label_set.biases)
    if label_set.multi_label:
        with np.errstate(over="ignore"):  # exp(-logit) may be infinite: the probability is then 0
            scores = 1.0 / (1.0 + np.exp(-scaled))
    else:
        exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        scores = exponentials / exponentials.sum(axis=1, keepdims=True)
    float32: FloatArray = scores.astype(np.float32)
    return float32


@dataclass(frozen=True)
class Results:
    """Results of texts under one label set, one row for each text, in input order.

    logits: (texts, labels) float32, NaN where the text could not be scored.
    token_counts: (texts,) tokens of each text without its prompt, cut or not; 0 where it could not be tokenized.
    chunk_counts: (texts,) windows that each text was scored in; 0 with an error.
    errors: the error of each text; None where it was scored.
    """

    label_set: LabelSet
    logits: FloatArray
    token_counts: NDArray[np.int32]
    chunk_counts: NDArray[np.int32]
    errors: tuple[TextError | None, ...]
    usage: Usage = field(default_factory=Usage)

    @cached_property
    def scores(self) -> FloatArray:
        """Probabilities (texts, labels) in [0, 1], float32; see `probabilities`."""
        return probabilities(self.logits, self.label_set)

    def classifications(self) -> list[Classification]:
        """Return one record for each text."""
        return [self._classification(row) for row in range(len(self.errors))]

    def _classification(self, row: int) -> Classification:
        token_count = int(self.token_counts[row])
        error = self.errors[row]
        if error:
            return Classification((), {}, error, token_count, 0)
        return classification(self.label_set, self.scores[row], token_count, int(self.chunk_counts[row]))


def classification(label_set: LabelSet, scores: FloatArray, token_count: int, chunk_count: int) -> Classification:
    """Return the record of one text's scores (labels,)."""
    scored = [ScoredLabel(name, score) for name, score in zip(label_set.names, scores.tolist(), strict=True)]
    [reaches_threshold] = passing_labels(scores[np.newaxis], label_set)
    [ranked] = rank_labels(scores[np.newaxis])
    labels = tuple(scored[index] for index in ranked if reaches_threshold[index])
    by_name = {label.label: label.score for label in scored}
    return Classification(labels, by_name, None, token_count, chunk_count)
