"""Decisions that were made about documents, and what came of them: the snapshot that a retraining learns from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gliclass_spark.errors import TrainingError
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.labelled_text import LabelledSet

Matrix = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Evidence:
    """judgements: how many there are. effective_sample_size: as many of equal weight would say as much (Kish:
    (sum w)^2 / sum w^2). clipped: how many would weigh more than is allowed.
    """

    judgements: int
    effective_sample_size: float
    clipped: int


@dataclass(frozen=True)
class LoggedDecisions:
    """One row for each document, one column for each label of the label set: (documents, labels) float32.

    targets: 1 if the label holds, 0 if not, -1 where nobody said. rewards: what came of the decision,
    in [-1, 1]. chosen: 1 if the document was given the label, 0 if not. propensities: how probable it was
    that it would be. The latter three are NaN where there is none. held_out (documents,): kept for the gate.
    """

    label_set: LabelSet
    texts: tuple[str, ...]
    targets: Matrix
    rewards: Matrix
    chosen: Matrix
    propensities: Matrix
    held_out: Mask

    def __len__(self) -> int:
        return len(self.texts)

    def where(self, rows: Mask) -> LoggedDecisions:
        """Those of the documents alone."""
        return LoggedDecisions(
            self.label_set,
            tuple(text for text, kept in zip(self.texts, rows, strict=True) if kept),
            self.targets[rows],
            self.rewards[rows],
            self.chosen[rows],
            self.propensities[rows],
            self.held_out[rows],
        )

    @cached_property
    def judged(self) -> Mask:
        """(documents, labels): whether it is known that the label holds, or that it doesn't."""
        found: Mask = self.targets >= 0
        return found

    @cached_property
    def rewarded(self) -> Mask:
        """(documents, labels): whether it is known what was decided, and what came of it."""
        found: Mask = ~np.isnan(self.rewards) & ~np.isnan(self.chosen)
        return found

    @property
    def explored(self) -> bool:
        """Whether some of the decisions were drawn, so that others would have been possible."""
        return bool((~np.isnan(self.propensities)).any())

    def action_propensities(self) -> Matrix:
        """(documents, labels): how probable the decision that was made was. Without exploration it was certain: 1."""
        found: Matrix = np.where(self.chosen > 0, self.propensities, 1 - self.propensities)
        return np.where(np.isnan(found), np.float32(1), found)

    def weights(self, max_weight: float) -> Matrix:
        """(documents, labels): the inverse of what `action_propensities` gives, `max_weight` at most.

        A label that is rarely given is rarely judged: so its answers count for those that nobody gave.
        """
        found: Matrix = np.minimum(1 / self.action_propensities(), max_weight).astype(np.float32)
        return found

    def evidence(self, max_weight: float) -> Evidence:
        """What the judgements amount to under such weights."""
        weights = self.weights(max_weight)[self.judged].astype(np.float64)
        least = self.action_propensities()[self.judged] < 1 / max_weight
        effective = float(weights.sum() ** 2 / max((weights**2).sum(), 1e-12))
        return Evidence(len(weights), effective, int(least.sum()))

    def labelled(self, name: str) -> LabelledSet:
        """What is known to hold, as a labelled set; documents without a known label are left out."""
        true = [tuple(np.flatnonzero(row > 0).tolist()) for row in self.targets]
        rows = [row for row, labels in enumerate(true) if labels]
        everything = LabelledSet(name, self.label_set.names, self.texts, tuple(true))
        return everything.rows(rows)


def read_decisions(folder: Path) -> LoggedDecisions:
    """The snapshot in `folder`: snapshot.json, and one row for each decision in feedback.parquet.

    An explicit verdict says whether a label holds. Where there is none, a reward above 0 says that the
    decision was right, and one below 0 that it was wrong. Raises TrainingError if the folder holds none,
    or a label that the label set lacks.
    """
    try:
        about = json.loads((folder / "snapshot.json").read_text(encoding="utf-8"))
        rows = pq.read_table(folder / "feedback.parquet")
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"{folder} holds no snapshot that can be read ({reason}); take it again") from None
    return _decisions(LabelSet.from_json(json.dumps(about["label_set"])), rows.to_pylist())


def _decisions(label_set: LabelSet, rows: list[dict[str, Any]]) -> LoggedDecisions:
    documents = {doc_id: place for place, doc_id in enumerate(dict.fromkeys(row["doc_id"] for row in rows))}
    column = {name: place for place, name in enumerate(label_set.names)}
    shape = (len(documents), len(label_set))
    targets = np.full(shape, -1, dtype=np.float32)
    rewards, chosen, propensities = (np.full(shape, np.nan, dtype=np.float32) for _ in range(3))
    held_out = np.zeros(len(documents), dtype=bool)
    texts = [""] * len(documents)
    for row in rows:
        if row["label"] not in column:
            raise TrainingError(f"the snapshot has a label that its label set lacks: {row['label']!r}; take it again")
        at = documents[row["doc_id"]], column[row["label"]]
        texts[at[0]], held_out[at[0]] = row["text"], row["held_out"]
        for matrix, name in ((rewards, "reward"), (chosen, "chosen"), (propensities, "propensity")):
            if row[name] is not None:
                matrix[at] = row[name]
        targets[at] = _target(row)
    return LoggedDecisions(label_set, tuple(texts), targets, rewards, chosen, propensities, held_out)


def _target(row: dict[str, Any]) -> float:
    if row["target"] is not None:
        return float(row["target"])
    if row["chosen"] is None or not row["reward"]:
        return -1.0
    return float(row["chosen"] == (row["reward"] > 0))
