"""Logged decisions: the snapshot of decisions, judgements and rewards that a retraining trains on."""

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
from gliclass_spark.training.importance_weights import effective_sample_size

Matrix = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Evidence:
    """How much the judgements are worth under inverse-propensity weights.

    judgements: their number. effective_sample_size: number of judgements of equal weight with the same variance.
    clipped: judgements whose weight is held to the upper bound.
    """

    judgements: int
    effective_sample_size: float
    clipped: int


@dataclass(frozen=True)
class LoggedDecisions:
    """One row for each document, one column for each label of the label set: (documents, labels) float32.

    targets: 1 if the label holds, 0 if not, -1 if unknown. rewards: of the decision, in [-1, 1]. actions: 1 if the
    document was given the label, 0 if not. propensities: probability of giving the label under the behaviour policy.
    The latter three are NaN where there is none. held_out (documents,): held out for the gate.
    """

    label_set: LabelSet
    texts: tuple[str, ...]
    targets: Matrix
    rewards: Matrix
    actions: Matrix
    propensities: Matrix
    held_out: Mask

    def __len__(self) -> int:
        return len(self.texts)

    def where(self, rows: Mask) -> LoggedDecisions:
        """Return the documents of a mask (documents,), in their order."""
        return LoggedDecisions(
            self.label_set,
            tuple(text for text, is_kept in zip(self.texts, rows, strict=True) if is_kept),
            self.targets[rows],
            self.rewards[rows],
            self.actions[rows],
            self.propensities[rows],
            self.held_out[rows],
        )

    @cached_property
    def judged(self) -> Mask:
        """(documents, labels): whether it is known if the label holds."""
        mask: Mask = self.targets >= 0
        return mask

    @cached_property
    def rewarded(self) -> Mask:
        """(documents, labels): whether the action and its reward are known."""
        mask: Mask = ~np.isnan(self.rewards) & ~np.isnan(self.actions)
        return mask

    @property
    def explored(self) -> bool:
        """Whether some of the decisions were drawn at random."""
        return bool((~np.isnan(self.propensities)).any())

    def action_propensities(self) -> Matrix:
        """Return the probability of each action that was taken, (documents, labels); 1 without exploration."""
        propensities: Matrix = np.where(self.actions > 0, self.propensities, 1 - self.propensities)
        return np.where(np.isnan(propensities), np.float32(1), propensities)

    def weights(self, max_weight: float) -> Matrix:
        """Return inverse-propensity weights, (documents, labels), `max_weight` at most.

        A label that is rarely given is rarely judged: its judgements stand in for those that are missing.
        """
        weights: Matrix = np.minimum(1 / self.action_propensities(), max_weight).astype(np.float32)
        return weights

    def evidence(self, max_weight: float) -> Evidence:
        """Return how much the judgements are worth under `weights(max_weight)`."""
        weights = self.weights(max_weight)[self.judged]
        is_clipped = self.action_propensities()[self.judged] < 1 / max_weight
        return Evidence(len(weights), effective_sample_size(weights), int(is_clipped.sum()))

    def labelled(self, name: str) -> LabelledSet:
        """Return the documents with a label that is known to hold, as a labelled set."""
        targets = tuple(tuple(np.flatnonzero(row > 0).tolist()) for row in self.targets)
        rows = [row for row, labels in enumerate(targets) if labels]
        return LabelledSet(name, self.label_set.names, self.texts, targets).rows(rows)


def read_decisions(folder: Path) -> LoggedDecisions:
    """Return the snapshot in a folder: snapshot.json, and feedback.parquet with one row for each decision.

    An explicit verdict states whether a label holds. Without one, a reward above 0 means that the decision was right,
    and one below 0 that it was wrong. Raises TrainingError if there is no snapshot, or if it has a label that its
    label set lacks.
    """
    try:
        snapshot = json.loads((folder / "snapshot.json").read_text(encoding="utf-8"))
        rows = pq.read_table(folder / "feedback.parquet")
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"{folder} holds no snapshot that can be read ({reason}); take it again") from None
    return _decisions(LabelSet.from_json(json.dumps(snapshot["label_set"])), rows.to_pylist())


def _decisions(label_set: LabelSet, rows: list[dict[str, Any]]) -> LoggedDecisions:
    documents = {doc_id: index for index, doc_id in enumerate(dict.fromkeys(row["doc_id"] for row in rows))}
    columns = {name: column for column, name in enumerate(label_set.names)}
    shape = (len(documents), len(label_set))
    targets = np.full(shape, -1, dtype=np.float32)
    rewards, actions, propensities = (np.full(shape, np.nan, dtype=np.float32) for _ in range(3))
    held_out = np.zeros(len(documents), dtype=bool)
    texts = [""] * len(documents)
    for row in rows:
        if row["label"] not in columns:
            raise TrainingError(f"the snapshot has a label that its label set lacks: {row['label']!r}; take it again")
        document, column = documents[row["doc_id"]], columns[row["label"]]
        texts[document], held_out[document] = row["text"], row["held_out"]
        for matrix, name in ((rewards, "reward"), (actions, "chosen"), (propensities, "propensity")):
            if row[name] is not None:
                matrix[document, column] = row[name]
        targets[document, column] = _target(row)
    return LoggedDecisions(label_set, tuple(texts), targets, rewards, actions, propensities, held_out)


def _target(row: dict[str, Any]) -> float:
    if row["target"] is not None:
        return float(row["target"])
    if row["chosen"] is None or not row["reward"]:
        return -1.0
    return float(row["chosen"] == (row["reward"] > 0))
