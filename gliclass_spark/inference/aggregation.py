"""Aggregation: from the logits of a text's windows and label groups to one result per text."""

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

# (windows, labels) to (labels,). The second argument returns each window's share of the text.
_AGGREGATIONS: dict[LongTexts, Callable[[FloatArray, Callable[[], list[float]]], FloatArray]] = {
    "max": lambda windows, shares: windows.max(axis=0),
    "mean": lambda windows, shares: windows.mean(axis=0),
    "token_mean": lambda windows, shares: np.average(windows, axis=0, weights=shares()).astype(np.float32),
    "cut": lambda windows, shares: windows[0],
}


@dataclass(frozen=True)
class TextResult:
    """The result of one text under its label set.

    label_set: None if the text's labels are invalid.
    logits: (labels,) float32; None with an error.
    token_count: tokens of the text without its prompt, cut or not; 0 if it could not be tokenized.
    chunk_count: windows that were scored; 0 with an error.
    """

    label_set: LabelSet | None
    logits: FloatArray | None
    token_count: int
    chunk_count: int
    error: TextError | None

    @property
    def classification(self) -> Classification:
        """The result as a record of labels and scores."""
        if self.label_set is None or self.logits is None:
            return Classification((), {}, self.error, self.token_count, 0)
        [scores] = probabilities(self.logits[np.newaxis], self.label_set)
        return classification(self.label_set, scores, self.token_count, self.chunk_count)


def aggregate(text: TokenizedText, logits: Sequence[FloatArray | None]) -> TextResult:
    """Combine the logits of a text's inputs into its result, as its label set's `long_texts` says.

    logits: (labels of the group,) for each of `text.inputs`, in their order; None where the device ran out of memory.
    """
    label_set = text.prompt.label_set if text.prompt else None
    group_logits = [group for group in logits if group is not None]
    error = OUT_OF_MEMORY if len(group_logits) < len(logits) else text.error
    if error is not None or label_set is None:
        return TextResult(label_set, None, text.token_count, 0, error)
    windows = np.concatenate(group_logits).reshape(len(text.windows), len(label_set))
    aggregated = _AGGREGATIONS[label_set.window_aggregation](windows, text.window_shares)
    return TextResult(label_set, aggregated, text.token_count, len(text.windows), None)


def stack_results(rows: Sequence[TextResult], label_set: LabelSet, usage: Usage) -> Results:
    """Stack the results of texts under one label set, one row each."""
    logits = np.full((len(rows), len(label_set)), np.nan, dtype=np.float32)
    for number, row in enumerate(rows):
        if row.logits is not None:
            logits[number] = row.logits
    return Results(
        label_set,
        logits,
        np.array([row.token_count for row in rows], dtype=np.int32),
        np.array([row.chunk_count for row in rows], dtype=np.int32),
        tuple(row.error for row in rows),
        usage,
    )
