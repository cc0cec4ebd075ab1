"""What the model said of each window and each group of labels becomes one answer for a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gliclass_spark.inference.results import (
    OUT_OF_MEMORY,
    Classification,
    FloatArray,
    Results,
    TextError,
    Usage,
    classification,
    probabilities,
)
from gliclass_spark.inference.tokenization import TokenizedText
from gliclass_spark.labels import LabelSet, LongTexts

# (windows, labels) to (labels,). The second argument gives the part of the text that each window stands for.
_JOINED: dict[LongTexts, Callable[[FloatArray, Callable[[], list[float]]], FloatArray]] = {
    "max": lambda windows, shares: windows.max(axis=0),
    "mean": lambda windows, shares: windows.mean(axis=0),
    "token_mean": lambda windows, shares: np.average(windows, axis=0, weights=shares()).astype(np.float32),
    "cut": lambda windows, shares: windows[0],
}


@dataclass(frozen=True)
class TextResult:
    """What the model said of one text: logits (labels,) for its label set; None with an error.

    label_set: None where there was none that could be asked.
    token_count: tokens of the whole text; 0 where it could not be tokenised.
    chunk_count: the windows that it was read in; 0 with an error.
    """

    label_set: LabelSet | None
    logits: FloatArray | None
    token_count: int
    chunk_count: int
    error: TextError | None

    @property
    def classification(self) -> Classification:
        """The readable form."""
        if self.label_set is None or self.logits is None:
            return Classification((), {}, self.error, self.token_count, 0)
        [scores] = probabilities(self.logits[np.newaxis], self.label_set)
        return classification(self.label_set, scores, self.token_count, self.chunk_count)


def stack_results(answers: Sequence[TextResult], label_set: LabelSet, usage: Usage) -> Results:
    """One row for each answer to one label set."""
    logits = np.full((len(answers), len(label_set)), np.nan, dtype=np.float32)
    for row, given in enumerate(answers):
        if given.logits is not None:
            logits[row] = given.logits
    return Results(
        label_set,
        logits,
        np.array([given.token_count for given in answers], dtype=np.int32),
        np.array([given.chunk_count for given in answers], dtype=np.int32),
        tuple(given.error for given in answers),
        usage,
    )


def aggregate(text: TokenizedText, logits: Sequence[FloatArray | None]) -> TextResult:
    """Join the logits of `text.inputs`, in their order; a None among them stands for a lack of memory."""
    label_set = text.prompt.label_set if text.prompt else None
    found = [each for each in logits if each is not None]
    error = OUT_OF_MEMORY if len(found) < len(logits) else text.error
    if error is not None or label_set is None:
        return TextResult(label_set, None, text.token_count, 0, error)
    windows = np.concatenate(found).reshape(len(text.windows), len(label_set))
    joined = _JOINED[label_set.joined_by](windows, text.shares)
    return TextResult(label_set, joined, text.token_count, len(text.windows), None)
