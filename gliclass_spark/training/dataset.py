"""Labelled text, and the questions that a model is trained on.

A zero-shot model must not learn one label set by heart, so every example asks a fresh question: the
text's own labels, others of its set, and a few of other sets, in a random order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset

from gliclass_spark.errors import TrainingError
from gliclass_spark.labels import Label, LabelSet
from gliclass_spark.model.prompt import PromptBuilder

# A rough guess of tokens from characters: good enough to put texts of like length into one batch.
_CHARS_PER_TOKEN = 4.5


@dataclass(frozen=True)
class LabelledSet:
    """Texts with the labels of one label set. `targets` holds indices into `labels`, one tuple a text."""

    name: str
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    targets: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.texts)


def read_set(path: Path, split: str | None = None) -> LabelledSet:
    """Read a Parquet file with the columns text and labels (list of strings), and split if one is asked.

    The label set is that of the whole file, so that every split asks the same question.
    """
    table = pq.read_table(path)
    missing = {"text", "labels", *(["split"] if split else [])} - set(table.column_names)
    if missing:
        raise TrainingError(f"{path} lacks the column(s) {', '.join(sorted(missing))}; it has {table.column_names}")
    rows = [row for row in table.to_pylist() if row["text"] and row["labels"]]
    names = tuple(sorted({label for row in rows for label in row["labels"]}))
    if len(names) < 2:
        raise TrainingError(f"{path} has {len(names)} label(s); at least two are needed to learn a difference")
    index = {name: position for position, name in enumerate(names)}
    kept = [row for row in rows if split is None or row["split"] == split]
    targets = tuple(tuple(sorted({index[label] for label in row["labels"]})) for row in kept)
    return LabelledSet(path.stem, names, tuple(row["text"] for row in kept), targets)


def read_folder(folder: Path, split: str | None = None) -> list[LabelledSet]:
    """Every Parquet file of a folder, by name. Raises TrainingError when there is none."""
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise TrainingError(f"{folder} holds no .parquet file; give the folder of the labelled data")
    return [read_set(path, split) for path in paths]


class QuestionDataset(Dataset[dict[str, list[Any]]]):
    """A fixed number of questions, each decided by the seed and its position alone.

    So a training that was stopped continues with the very questions that it would have seen. A set
    is drawn with probability proportional to the square root of its size. Questions of like length
    stand in one batch of `batch_size`; the batches themselves are in random order.
    """

    def __init__(
        self,
        sets: Sequence[LabelledSet],
        builder: PromptBuilder,
        *,
        size: int,
        batch_size: int,
        min_labels: int,
        max_labels: int,
        foreign_share: float,
        max_text_tokens: int,
        seed: int,
    ) -> None:
        self._sets = sets
        self._builder = builder
        self._min_labels, self._max_labels = min_labels, max_labels
        self._foreign_share = foreign_share
        self._max_text_tokens = max_text_tokens
        self._seed = seed
        self._plan = _plan(sets, size, batch_size, max_text_tokens, np.random.default_rng(seed))

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, position: int) -> dict[str, list[Any]]:
        chosen, row = self._plan[position]
        labelled = self._sets[chosen]
        rng = np.random.default_rng((self._seed, position))
        asked, targets = self._question(labelled, labelled.targets[row], rng)
        label_set = LabelSet(labels=tuple(Label(name=name) for name in asked))
        prompt = self._builder.prompt(label_set)
        text_ids = self._builder.text_ids([labelled.texts[row]], prompt)[0][: self._max_text_tokens]
        return {"input_ids": prompt.wrap(text_ids), "labels": targets}

    def _question(
        self, labelled: LabelledSet, true: tuple[int, ...], rng: np.random.Generator
    ) -> tuple[list[str], list[float]]:
        count = int(rng.integers(self._min_labels, self._max_labels + 1))
        positive = [labelled.labels[i] for i in true][:count]
        others = [name for i, name in enumerate(labelled.labels) if i not in true]
        free = count - len(positive)
        foreign_count = int(rng.binomial(free, self._foreign_share))
        negative = list(rng.permutation(others)[: free - foreign_count])
        negative += self._foreign(labelled, foreign_count, {*positive, *others}, rng)
        asked = [*positive, *map(str, negative)]
        order = rng.permutation(len(asked))
        return [asked[i] for i in order], [float(i < len(positive)) for i in order]

    def _foreign(self, own: LabelledSet, count: int, known: set[str], rng: np.random.Generator) -> list[str]:
        """Labels of other sets. They are taken as false, which for a text of another set they nearly always are."""
        found: list[str] = []
        for _ in range(count):
            other = self._sets[int(rng.integers(len(self._sets)))]
            name = other.labels[int(rng.integers(len(other.labels)))]
            if name.casefold() not in {label.casefold() for label in known}:
                known.add(name)
                found.append(name)
        return found


def _plan(
    sets: Sequence[LabelledSet], size: int, batch_size: int, max_text_tokens: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    weights = np.sqrt([len(labelled) for labelled in sets])
    chosen = rng.choice(len(sets), size=size, p=weights / weights.sum())
    drawn = [(int(number), int(rng.integers(len(sets[number])))) for number in chosen]
    lengths = [min(len(sets[number].texts[row]) / _CHARS_PER_TOKEN, max_text_tokens) for number, row in drawn]
    pool = batch_size * 64
    batches: list[list[tuple[int, int]]] = []
    for start in range(0, size, pool):
        members = sorted(range(start, min(start + pool, size)), key=lengths.__getitem__)
        ordered = [[drawn[i] for i in members[at : at + batch_size]] for at in range(0, len(members), batch_size)]
        batches += [ordered[i] for i in rng.permutation(len(ordered))]
    return [question for batch in batches for question in batch]


def collate(questions: Sequence[dict[str, list[Any]]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad a batch on the right: input_ids, attention_mask (batch, tokens) and labels (batch, labels).

    A row's missing labels have target -1: no label, hence no true negative either.
    """
    tokens = max(len(question["input_ids"]) for question in questions)
    asked = max(len(question["labels"]) for question in questions)
    input_ids = torch.full((len(questions), tokens), pad_id)
    attention_mask = torch.zeros((len(questions), tokens), dtype=torch.long)
    labels = torch.full((len(questions), asked), -1.0)
    for row, question in enumerate(questions):
        length = len(question["input_ids"])
        input_ids[row, :length] = torch.tensor(question["input_ids"])
        attention_mask[row, :length] = 1
        labels[row, : len(question["labels"])] = torch.tensor(question["labels"])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
