"""Training batches drawn from labelled sets.

A zero-shot model must not memorize one label set, so every batch has labels of its own: some labels of one set, in a
random order, labels of other sets as negatives, and a few texts of that set.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gliclass_spark.config.training import SamplingConfig
from gliclass_spark.errors import TrainingError
from gliclass_spark.training.data.label_templates import reword
from gliclass_spark.training.data.labelled_text import LabelledSet

# The texts of a batch are neighbours by length among this many times as many: so there is little padding.
_LENGTH_POOL = 3


@dataclass(frozen=True)
class TrainingBatch:
    """Texts, and labels that are scored for each of them.

    targets: (texts, labels) float32; 1 if the label holds, 0 if not, -1 if that is unknown.
    weights: (texts, labels) float32; how much each target counts. None: all alike.
    full_window: texts are truncated at the model's window alone, not at the training's `max_text_tokens`.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None
    full_window: bool = False


class _Candidates:
    """Labels that batches are drawn from, and the rows of each: of a whole set, or of one source of it."""

    def __init__(self, rows_by_label: Mapping[int, Sequence[int]]) -> None:
        self._rows_by_label = rows_by_label
        self._labels = np.array(list(rows_by_label), dtype=int)

    def draw_labels(self, count: int, rng: np.random.Generator) -> list[int]:
        return [int(label) for label in rng.permutation(self._labels)[:count]]

    def draw_row(self, label: int, rng: np.random.Generator) -> int:
        rows = self._rows_by_label[label]
        return rows[int(rng.integers(len(rows)))]


class BatchSampler(Dataset[TrainingBatch]):
    """A fixed number of batches, each determined by the seed and its position alone.

    So a training that was stopped continues with the batches that were left. Labels are drawn first and texts by
    label, so that rare labels of a set are drawn as often as its common ones.
    """

    def __init__(self, sets: Sequence[LabelledSet], config: SamplingConfig, *, size: int, seed: int) -> None:
        if not sets:
            raise TrainingError("there is no labelled set to train on; give at least one")
        self._sets = sets
        self._config = config
        self._size = size
        self._seed = seed
        self._candidates = [_of_set(labelled) for labelled in sets]
        self._candidates_of_sources = [_of_sources(labelled) for labelled in sets]
        weights = np.array([len(labelled) for labelled in sets], dtype=float) ** config.size_power
        self._probabilities = weights / weights.sum()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, position: int) -> TrainingBatch:
        rng = np.random.default_rng((self._seed, position))
        set_index = int(rng.choice(len(self._sets), p=self._probabilities))
        labelled = self._sets[set_index]
        label_count = self._draw_label_count(rng)
        negatives = self._draw_negatives(labelled, int(rng.binomial(label_count, self._config.negative_share)), rng)
        candidates = self._draw_candidates(set_index, rng)
        own_labels = candidates.draw_labels(max(2, label_count - len(negatives)), rng)
        rows = self._draw_rows(labelled, candidates, own_labels, rng)
        names = rng.permutation([*(labelled.labels[label] for label in own_labels), *negatives]).tolist()
        texts, text_labels = self._join_texts(labelled, rows, rng)
        targets = _targets(names, [[labelled.labels[label] for label in labels] for labels in text_labels])
        if rng.random() < self._config.reworded_share:
            names = reword(names, rng)
        full_window = bool(rng.random() < self._config.full_window_share)
        return TrainingBatch(tuple(texts), tuple(names), targets, full_window=full_window)

    def _draw_label_count(self, rng: np.random.Generator) -> int:
        """Log-uniform: few labels as often as many."""
        return round(math.exp(rng.uniform(math.log(self._config.min_labels), math.log(self._config.max_labels))))

    def _draw_candidates(self, set_index: int, rng: np.random.Generator) -> _Candidates:
        """Those of one source, drawn uniformly, in a `same_source_share` of the batches; else those of the set."""
        of_sources = self._candidates_of_sources[set_index]
        if of_sources and rng.random() < self._config.same_source_share:
            return of_sources[int(rng.integers(len(of_sources)))]
        return self._candidates[set_index]

    def _draw_negatives(self, labelled: LabelledSet, count: int, rng: np.random.Generator) -> list[str]:
        """Labels of other sets. They are taken as false, which for a text of another set they nearly always are."""
        taken = {name.casefold() for name in labelled.labels}
        negatives: list[str] = []
        for _ in range(count):
            other = self._sets[int(rng.integers(len(self._sets)))]
            name = other.labels[int(rng.integers(len(other.labels)))]
            if name.casefold() not in taken:
                taken.add(name.casefold())
                negatives.append(name)
        return negatives

    def _draw_rows(
        self, labelled: LabelledSet, candidates: _Candidates, labels: Sequence[int], rng: np.random.Generator
    ) -> list[int]:
        """Texts of similar length that have at least one of the labels."""
        drawn = rng.choice(labels, size=self._config.texts * _LENGTH_POOL)
        pool = {candidates.draw_row(int(label), rng) for label in drawn}
        by_length = sorted(pool, key=lambda row: (len(labelled.texts[row]), row))
        start = int(rng.integers(max(1, len(by_length) - self._config.texts + 1)))
        return by_length[start : start + self._config.texts]

    def _join_texts(
        self, labelled: LabelledSet, rows: Sequence[int], rng: np.random.Generator
    ) -> tuple[list[str], list[set[int]]]:
        """Texts and their labels, a `joined_share` of the texts followed by another one of the rows."""
        texts = [labelled.texts[row] for row in rows]
        labels = [set(labelled.targets[row]) for row in rows]
        for index in np.flatnonzero(rng.random(len(rows)) < self._config.joined_share):
            other = rows[int(rng.integers(len(rows)))]
            texts[index] = f"{texts[index]} {labelled.texts[other]}"
            labels[index] |= set(labelled.targets[other])
        return texts, labels


def _of_set(labelled: LabelledSet) -> _Candidates:
    return _Candidates({label: rows for label, rows in enumerate(labelled.by_label()) if rows})


def _of_sources(labelled: LabelledSet) -> list[_Candidates]:
    """Candidates of each source that has two labels or more, without labels that hold for all of its texts."""
    sources = []
    for rows in labelled.by_source().values():
        rows_by_label: defaultdict[int, list[int]] = defaultdict(list)
        for row in rows:
            for label in labelled.targets[row]:
                rows_by_label[label].append(row)
        telling = {label: of_label for label, of_label in rows_by_label.items() if len(of_label) < len(rows)}
        if len(telling) > 1:
            sources.append(_Candidates(telling))
    return sources


def _targets(names: Sequence[str], text_labels: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """(texts, labels): 1 for each label of a text that is among `names`."""
    columns = {name: column for column, name in enumerate(names)}
    targets = np.zeros((len(text_labels), len(names)), dtype=np.float32)
    for row, labels in enumerate(text_labels):
        targets[row, [columns[name] for name in labels if name in columns]] = 1
    return targets
