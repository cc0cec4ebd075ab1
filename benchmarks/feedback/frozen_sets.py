"""Labelled sets as frozen embeddings and the champion's scores: what simulations of feedback learn on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.labelled_text import LabelledSet, read_sets
from gliclass_spark.training.evaluation.baselines import EmbeddingClassifier, similarity_checkpoint
from gliclass_spark.training.evaluation.evaluate import sample

CHAMPION = "embedded"


@dataclass(frozen=True)
class FrozenTexts:
    """Texts of one set.

    vectors: embeddings (texts, size), of length 1. scores: the champion's, (texts, labels). truth: (texts, labels).
    """

    vectors: FloatArray
    scores: FloatArray
    truth: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True)
class FrozenSet:
    """A set whose texts are read once: documents with feedback, and test texts."""

    name: str
    label_set: LabelSet
    documents: FrozenTexts
    test: FrozenTexts


def frozen_sets(data: Path, names: Sequence[str], documents: int, tests: int) -> list[FrozenSet]:
    """Return the sets, each text joined with another one, so that it has the labels of both.

    documents, tests: texts of the train split and of the test split. Exits with a message if a set is absent.
    """
    if not data.is_dir():
        raise SystemExit(f"{data} is no folder; give one of tables with the columns text, labels and split")
    splits = {split: {each.name: each for each in read_sets(data, split)} for split in ("train", "test")}
    missing = [name for name in names if name not in splits["train"] or name not in splits["test"]]
    if missing:
        raise SystemExit(f"{data} has no set {missing[0]!r}; name others with --sets: {', '.join(splits['test'])}")
    engine, embedding = Engine.from_pretrained(CHAMPION), EmbeddingClassifier(similarity_checkpoint(CHAMPION))
    return [
        FrozenSet(
            name,
            LabelSet.of(*splits["train"][name].labels, name=name),
            _freeze(in_pairs(sample(splits["train"][name], 2 * documents)), engine, embedding),
            _freeze(in_pairs(sample(splits["test"][name], 2 * tests)), engine, embedding),
        )
        for name in names
    ]


def in_pairs(labelled: LabelledSet) -> LabelledSet:
    """Return each two texts joined, with the labels of both; the last of an odd number is left out."""
    rows = range(0, len(labelled) - 1, 2)
    texts = tuple(f"{labelled.texts[row]} {labelled.texts[row + 1]}" for row in rows)
    targets = tuple(tuple(sorted({*labelled.targets[row], *labelled.targets[row + 1]})) for row in rows)
    return LabelledSet(labelled.name, labelled.labels, texts, targets)


def _freeze(labelled: LabelledSet, engine: Engine, embedding: EmbeddingClassifier) -> FrozenTexts:
    vectors = embedding.embed(labelled.texts)
    truth = np.zeros((len(labelled), len(labelled.labels)), dtype=np.bool_)
    for row, labels in enumerate(labelled.targets):
        truth[row, list(labels)] = True
    scores = engine.scores(labelled.texts, LabelSet.of(*labelled.labels, name=labelled.name))
    return FrozenTexts(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), scores, truth)
