"""Logged decisions: the snapshot of decisions, judgements and rewards that a retraining trains on."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gliclass_spark.config.retraining import NotGiven
from gliclass_spark.errors import TrainingError
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.importance_weights import effective_sample_size, largest_weight

Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Evidence:
    """How much the judgements are worth under inverse-propensity weights.

    judgements: their number, explicit and implied by rewards. explicit: those of a verdict. explored: those of a
    decision that thresholds would have made the other way. effective_sample_size: number of judgements of equal weight
    with the same variance. max_weight: the upper bound of a weight, before they are normalized. clipped: judgements
    whose weight is held to it. impossible: decisions that were made although their propensity says that they could not
    be.
    """

    judgements: int
    explicit: int
    explored: int
    effective_sample_size: float
    max_weight: float
    clipped: int
    impossible: int


@dataclass(frozen=True)
class LoggedDecisions:
    """One row for each document, one column for each label of the label set: (documents, labels) float32.

    targets: 1 if a verdict says that the label holds, 0 if one says that it does not, -1 if there is none. rewards: of
    the decision, in [-1, 1]. actions: 1 if the document was given the label, 0 if not. propensities: probability of
    giving the label under the behaviour policy. The latter three are NaN where there is none. held_out (documents,):
    held out for the gate. document_rewards (documents,): of all labels of a document together, in [-1, 1], NaN where
    there is none; None if no document has one. exploration: the share of the documents whose labels are drawn.

    Targets are the truth, as far as people stated it: a gate may rely on them. What rewards imply is in
    `training_targets` alone.
    """

    label_set: LabelSet
    texts: tuple[str, ...]
    targets: Matrix
    rewards: Matrix
    actions: Matrix
    propensities: Matrix
    held_out: Mask
    document_rewards: Vector | None = None
    exploration: float = 0.0

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
            None if self.document_rewards is None else self.document_rewards[rows],
            self.exploration,
        )

    @cached_property
    def judged(self) -> Mask:
        """(documents, labels): whether a verdict states if the label holds."""
        mask: Mask = self.targets >= 0
        return mask

    @cached_property
    def rewarded(self) -> Mask:
        """(documents, labels): whether the action and its reward are known."""
        mask: Mask = ~np.isnan(self.rewards) & ~np.isnan(self.actions)
        return mask

    @cached_property
    def shared_rewards(self) -> Matrix:
        """(documents, labels): the document's reward, for each label whose action it judges; NaN elsewhere.

        Feedback on a label takes precedence over the document's: with a target or a reward of its own, it shares none.
        """
        shared = np.full_like(self.rewards, np.nan)
        if self.document_rewards is not None:
            is_shared = ~self.judged & np.isnan(self.rewards) & ~np.isnan(self.actions)
            shared = np.where(is_shared, self.document_rewards[:, np.newaxis], shared)
        return shared

    @cached_property
    def sharing(self) -> Mask:
        """(documents, labels): whether the action is rewarded together with the document's others."""
        return ~np.isnan(self.shared_rewards)

    @cached_property
    def training_targets(self) -> Matrix:
        """(documents, labels): the targets, and where there is none, what the reward implies; -1 if unknown.

        A reward above 0 implies that the decision was right, one below 0 that it was wrong. A document's reward above 0
        implies that all of its decisions were right; one below 0 does not say which of them was wrong.
        """
        right = (self.actions > 0) == (self.rewards > 0)
        implied = np.where(self.rewarded & (self.rewards != 0), right.astype(np.float32), np.float32(-1))
        implied = np.where(self.shared_rewards > 0, self.actions, implied)
        return np.where(self.judged, self.targets, implied)

    @cached_property
    def reward_sizes(self) -> Matrix:
        """(documents, labels): the size of a decision's reward; 1 without one, and for a verdict with a reward of 0."""
        known = self.rewarded & ((self.rewards != 0) | ~self.judged)
        sizes = np.where(known, np.abs(self.rewards), np.float32(1))
        return np.where(self.sharing, np.abs(self.shared_rewards), sizes).astype(np.float32)

    @cached_property
    def rewards_both_actions(self) -> bool:
        """Whether giving and not giving a label were both rewarded: otherwise not giving is worth 0, by definition.

        Rewards of documents, which are of both, don't count.
        """
        return len(np.unique(self.actions[self.rewarded])) > 1

    @property
    def explored(self) -> bool:
        """Whether some of the decisions were drawn at random."""
        return bool((~np.isnan(self.propensities)).any())

    def rewards_differ(self, not_given: NotGiven) -> bool:
        """Return whether there is anything to learn from the rewards.

        Equal ones of given labels say something only if those of labels that are not given are known to be 0.
        """
        rewards = np.unique(np.concatenate([self.rewards[self.rewarded], self.shared_rewards[self.sharing]]))
        return len(rewards) > 1 or (not_given == "zero" and bool(rewards.any()))

    def with_reward_of_not_given(self) -> LoggedDecisions:
        """Return the decisions with a reward of 0 for each label that is known to be not given, and has none."""
        has_none = (self.actions == 0) & np.isnan(self.rewards) & ~self.sharing
        return replace(self, rewards=np.where(has_none, 0, self.rewards))

    def action_propensities(self) -> Matrix:
        """Return the probability of each action that was taken, (documents, labels).

        It is 1 without exploration, and where the log says that the action was impossible: it was taken, so the log is
        wrong, and an infinite weight would be, too.
        """
        propensities: Matrix = np.where(self.actions > 0, self.propensities, 1 - self.propensities)
        known = ~np.isnan(propensities) & (propensities > 0) & (propensities <= 1)
        return np.where(known, propensities, np.float32(1))

    def weights(self, max_weight: float | None = None) -> Matrix:
        """Return inverse-propensity weights of all actions, (documents, labels).

        A label that is rarely given is rarely judged: its judgements stand in for those that are missing. Weights are
        at most `max_weight`; for None, the bound that leaves a twentieth of the judgements effective
        (`largest_weight`). Then those of the judged or rewarded decisions are normalized to a mean of 1.
        """
        raw = 1 / self.action_propensities()
        used = self.rewarded | self.sharing | (self.training_targets >= 0)
        bound = largest_weight(raw[used]) if max_weight is None else max_weight
        weights = np.minimum(raw, bound).astype(np.float32)
        mean = float(weights[used].mean(dtype=np.float64)) if used.any() else 1.0
        return weights / np.float32(mean)

    def training_weights(self, max_weight: float | None = None) -> Matrix:
        """Return how much each of the training targets counts: its weight times the size of its reward."""
        return self.weights(max_weight) * self.reward_sizes

    def evidence(self, max_weight: float | None = None) -> Evidence:
        """Return how much the judgements are worth under `weights(max_weight)`."""
        known = self.training_targets >= 0
        propensities = self.action_propensities()[known]
        bound = largest_weight(1 / propensities) if max_weight is None else max_weight
        taken = np.where(self.actions > 0, self.propensities, 1 - self.propensities)
        return Evidence(
            judgements=len(propensities),
            explicit=int(self.judged.sum()),
            explored=int((propensities < 0.5).sum()),
            effective_sample_size=effective_sample_size(np.minimum(1 / propensities, bound)),
            max_weight=bound,
            clipped=int((1 / propensities > bound * (1 + 1e-6)).sum()),
            impossible=int((taken <= 0).sum()),
        )

    def labelled(self, name: str) -> LabelledSet:
        """Return the documents with a label that holds by a verdict, as a labelled set."""
        targets = tuple(tuple(np.flatnonzero(row > 0).tolist()) for row in self.targets)
        rows = [row for row, labels in enumerate(targets) if labels]
        return LabelledSet(name, self.label_set.names, self.texts, targets).rows(rows)


def read_decisions(folder: Path, model_digest: str | None = None) -> LoggedDecisions:
    """Return the snapshot in a folder: snapshot.json, and feedback.parquet with one row for each decision.

    documents.parquet, if snapshot.json counts rewarded documents, has a row for each: one reward for all of its labels.
    model_digest: only the decisions of this model. Snapshots of an earlier version, which don't know it, have none.
    A row has a target if a verdict stated whether the label holds, and a reward alone if only implicit signals came.
    Raises TrainingError if there is no snapshot, or if it has a label that its label set lacks.
    """
    try:
        snapshot = json.loads((folder / "snapshot.json").read_text(encoding="utf-8"))
        rows = pq.read_table(folder / "feedback.parquet").to_pylist()
        documents: list[dict[str, Any]] = []
        if snapshot.get("counts", {}).get("rewarded_documents"):
            documents = pq.read_table(folder / "documents.parquet").to_pylist(maps_as_pydicts="strict")
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"{folder} holds no snapshot that can be read ({reason}); take it again") from None
    if model_digest is not None:
        rows, documents = (
            [row for row in part if row.get("model_digest") == model_digest] for part in (rows, documents)
        )
    decisions = _decisions(LabelSet.from_json(json.dumps(snapshot["label_set"])), rows, documents)
    return replace(decisions, exploration=snapshot.get("exploration", 0.0))


def _decisions(
    label_set: LabelSet, rows: list[dict[str, Any]], rewarded_documents: list[dict[str, Any]]
) -> LoggedDecisions:
    ids = dict.fromkeys(row["doc_id"] for row in (*rows, *rewarded_documents))
    documents = {doc_id: index for index, doc_id in enumerate(ids)}
    columns = {name: column for column, name in enumerate(label_set.names)}
    shape = (len(documents), len(label_set))
    targets = np.full(shape, -1, dtype=np.float32)
    rewards, actions, propensities = (np.full(shape, np.nan, dtype=np.float32) for _ in range(3))
    held_out = np.zeros(len(documents), dtype=bool)
    texts = [""] * len(documents)
    has_own = np.zeros(shape, dtype=bool)
    for row in rows:
        if row["label"] not in columns:
            raise TrainingError(f"the snapshot has a label that its label set lacks: {row['label']!r}; take it again")
        document, column = documents[row["doc_id"]], columns[row["label"]]
        texts[document], held_out[document] = row["text"], row["held_out"]
        has_own[document, column] = True
        for matrix, name in ((rewards, "reward"), (actions, "chosen"), (propensities, "propensity")):
            if row[name] is not None:
                matrix[document, column] = row[name]
        if row["target"] is not None:
            targets[document, column] = row["target"]
    document_rewards = np.full(len(documents), np.nan, dtype=np.float32)
    for row in rewarded_documents:
        document = documents[row["doc_id"]]
        texts[document], held_out[document] = row["text"], row["held_out"]
        document_rewards[document] = row["reward"]
        given, document_propensities = set(row["labels"]), row["propensities"] or {}
        # A label that the decision did not know, or that has feedback of its own, is none that the reward judges.
        for name in columns.keys() & row["scores"].keys():
            if not has_own[document, columns[name]]:
                actions[document, columns[name]] = name in given
                propensities[document, columns[name]] = document_propensities.get(name, np.nan)
    return LoggedDecisions(
        label_set,
        tuple(texts),
        targets,
        rewards,
        actions,
        propensities,
        held_out,
        document_rewards if rewarded_documents else None,
    )
