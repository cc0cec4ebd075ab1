"""What a model is asked while it learns.

A zero-shot model must not learn one label set by heart, so every question asks another one: some
labels of a set, in a random order, a few of other sets among them, about a handful of its texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gliclass_spark.errors import TrainingError
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.data.rewording import reword

# A question's texts are neighbours, by length, of this many times as many: so there is little padding.
_DRAWN_FOR_LENGTH = 3


@dataclass(frozen=True)
class TrainingBatch:
    """Labels that are asked of every one of the texts.

    targets (texts, labels) float32: 1 or 0, -1 where nobody knows. weights (texts, labels) float32: how
    much each of these answers counts; None: all alike.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class SamplingConfig:
    """texts: how many stand in one question. Their number of labels is drawn between `min_labels` and `max_labels`,
    small numbers as often as large ones; of these `foreign_share` are labels of other sets. `joined_share` of
    the texts are two texts in one, with the labels of both. `reworded_share` of the questions ask their labels in
    other words. A set is drawn with a probability proportional to its size to the power of `size_power`: 0 draws
    all sets alike, 1 all texts.
    """

    texts: int = 32
    min_labels: int = 4
    max_labels: int = 100
    foreign_share: float = 0.15
    joined_share: float = 0.0
    reworded_share: float = 0.0
    size_power: float = 0.5


class BatchSampler(Dataset[TrainingBatch]):
    """A fixed number of questions, each decided by the seed and its position alone.

    So a training that was stopped continues with the very questions that it would have seen. Labels are
    drawn first and texts by label, so that a set's rare labels are asked as often as its common ones.
    """

    def __init__(self, sets: Sequence[LabelledSet], config: SamplingConfig, *, size: int, seed: int) -> None:
        if not sets:
            raise TrainingError("there is no labelled set to learn from; give at least one")
        self._sets = sets
        self._config = config
        self._size = size
        self._seed = seed
        self._by_label = [labelled.by_label() for labelled in sets]
        self._with_texts = [np.array([label for label, rows in enumerate(of) if rows]) for of in self._by_label]
        weights = np.array([len(labelled) for labelled in sets], dtype=float) ** config.size_power
        self._probabilities = weights / weights.sum()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, position: int) -> TrainingBatch:
        rng = np.random.default_rng((self._seed, position))
        number = int(rng.choice(len(self._sets), p=self._probabilities))
        labelled = self._sets[number]
        count = round(math.exp(rng.uniform(math.log(self._config.min_labels), math.log(self._config.max_labels))))
        foreign = self._foreign(labelled, int(rng.binomial(count, self._config.foreign_share)), rng)
        own = self._own(number, max(2, count - len(foreign)), rng)
        rows = self._rows(number, own, rng)
        asked = rng.permutation([*(labelled.labels[label] for label in own), *foreign]).tolist()
        column = {name: place for place, name in enumerate(asked)}
        texts, true = self._joined(labelled, rows, rng)
        targets = np.zeros((len(texts), len(asked)), dtype=np.float32)
        for row, labels in enumerate(true):
            for name in (labelled.labels[label] for label in labels):
                if name in column:
                    targets[row, column[name]] = 1
        if rng.random() < self._config.reworded_share:
            asked = reword(asked, rng)
        return TrainingBatch(tuple(texts), tuple(asked), targets)

    def _own(self, number: int, count: int, rng: np.random.Generator) -> list[int]:
        return [int(label) for label in rng.permutation(self._with_texts[number])[:count]]

    def _foreign(self, labelled: LabelledSet, count: int, rng: np.random.Generator) -> list[str]:
        """Labels of other sets. They are taken as false, which for a text of another set they nearly always are."""
        known = {name.casefold() for name in labelled.labels}
        found: list[str] = []
        for _ in range(count):
            other = self._sets[int(rng.integers(len(self._sets)))]
            name = other.labels[int(rng.integers(len(other.labels)))]
            if name.casefold() not in known:
                known.add(name.casefold())
                found.append(name)
        return found

    def _rows(self, number: int, labels: Sequence[int], rng: np.random.Generator) -> list[int]:
        """Texts that have one of the labels at least, of like length."""
        wanted = self._config.texts
        drawn: set[int] = set()
        for label in rng.choice(labels, size=wanted * _DRAWN_FOR_LENGTH):
            rows = self._by_label[number][int(label)]
            drawn.add(rows[int(rng.integers(len(rows)))])
        ordered = sorted(drawn, key=lambda row: (len(self._sets[number].texts[row]), row))
        start = int(rng.integers(max(1, len(ordered) - wanted + 1)))
        return ordered[start : start + wanted]

    def _joined(
        self, labelled: LabelledSet, rows: Sequence[int], rng: np.random.Generator
    ) -> tuple[list[str], list[set[int]]]:
        texts = [labelled.texts[row] for row in rows]
        true = [set(labelled.targets[row]) for row in rows]
        for place in np.flatnonzero(rng.random(len(rows)) < self._config.joined_share):
            other = rows[int(rng.integers(len(rows)))]
            texts[place] = f"{texts[place]} {labelled.texts[other]}"
            true[place] |= set(labelled.targets[other])
        return texts, true
