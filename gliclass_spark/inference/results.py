"""What the engine gives back: arrays for machines, records for people, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import best_first, by_thresholds

# A text of this size is no document: tokenising a gigabyte would take the worker down with it.
MAX_TEXT_CHARS = 10_000_000

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class TextError:
    """Why a text could not be scored. `code` is one of the constants below."""

    code: str
    message: str


NULL_TEXT = TextError("null_text", "the text is null, or no string")
EMPTY_TEXT = TextError("empty_text", "the text is empty or white space")
UNDECODABLE_TEXT = TextError("undecodable_text", "the text is not valid Unicode")
TEXT_TOO_LONG = TextError("text_too_long", f"the text has more than {MAX_TEXT_CHARS:,} characters")
BAD_LABELS = "bad_labels"  # the code; the message says what is wrong with the labels of this text
OUT_OF_MEMORY = TextError("out_of_memory", "the device has no memory for this text, even alone")


@dataclass(frozen=True)
class ScoredLabel:
    label: str
    score: float


@dataclass(frozen=True)
class Classification:
    """One text, readable: the labels that thresholds give, best first, every score, and the error if any."""

    labels: tuple[ScoredLabel, ...]
    scores: dict[str, float]
    error: TextError | None
    token_count: int
    chunk_count: int

    def nested(self, label_set: LabelSet) -> dict[str, Any]:
        """The scores in the shape of the label set that was asked, see `LabelSet.nested`; empty with an error."""
        return label_set.nested(self.scores)


@dataclass(frozen=True)
class Usage:
    """What a call cost: tokens of texts and prompts, and how many of those the device saw were padding.

    seconds: of preparing and of scoring; in a stream these overlap, and both count.
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
        """Padding over all tokens that the device computed; 0 when it computed none."""
        computed = self.tokens + self.padding
        return self.padding / computed if computed else 0.0


def probabilities(logits: FloatArray, label_set: LabelSet) -> FloatArray:
    """Sigmoid of each logit over its label's temperature, or softmax of these over a single-label set.

    (texts, labels) to (texts, labels) in [0, 1]; NaN stays NaN.
    """
    scaled = logits.astype(np.float64) / np.array(label_set.temperatures)
    if label_set.multi_label:
        with np.errstate(over="ignore"):  # exp(-logit) may be infinite: the probability is then 0, as it should
            found = 1.0 / (1.0 + np.exp(-scaled))
    else:
        odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        found = odds / odds.sum(axis=1, keepdims=True)
    rounded: FloatArray = found.astype(np.float32)
    return rounded


@dataclass(frozen=True)
class Results:
    """One row for each text, in the order of the texts.

    logits: (texts, labels) float32, NaN where the text could not be scored.
    token_counts: tokens of each whole text; 0 where it could not be tokenised.
    chunk_counts: the windows that were read of each text; 0 with an error.
    """

    label_set: LabelSet
    logits: FloatArray
    token_counts: NDArray[np.int32]
    chunk_counts: NDArray[np.int32]
    errors: tuple[TextError | None, ...]
    usage: Usage = field(default_factory=Usage)

    @cached_property
    def scores(self) -> FloatArray:
        """Probabilities (texts, labels) in [0, 1], see `probabilities`."""
        return probabilities(self.logits, self.label_set)

    def classifications(self) -> list[Classification]:
        """The readable form, one for each text."""
        return [self._classification(row) for row in range(len(self.errors))]

    def _classification(self, row: int) -> Classification:
        token_count = int(self.token_counts[row])
        error = self.errors[row]
        if error:
            return Classification((), {}, error, token_count, 0)
        return classification(self.label_set, self.scores[row], token_count, int(self.chunk_counts[row]))


def classification(label_set: LabelSet, scores: FloatArray, token_count: int, chunk_count: int) -> Classification:
    """The readable form of one text's scores (labels,)."""
    scored = [ScoredLabel(name, score) for name, score in zip(label_set.names, scores.tolist(), strict=True)]
    [holds] = by_thresholds(scores[np.newaxis], label_set)
    [ranked] = best_first(scores[np.newaxis])
    labels = tuple(scored[place] for place in ranked if holds[place])
    named = {each.label: each.score for each in scored}
    return Classification(labels, named, None, token_count, chunk_count)
