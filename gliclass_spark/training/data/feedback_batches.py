"""What a model is asked while it learns from feedback: about documents that somebody judged, and about earlier data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gliclass_spark.errors import TrainingError
from gliclass_spark.training.data.batches import BatchSampler, SamplingConfig, TrainingBatch
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.data.logged_decisions import LoggedDecisions, Mask, Matrix

# Labels of one question. A model that reads labels beside the text has no room for more.
_MAX_LABELS = 64


@dataclass(frozen=True)
class LoggedBatch(TrainingBatch):
    """Decisions that were made, and what came of them: (texts, labels) float32 each, NaN where there is none.

    actions: 1 where the text was given the label, 0 where not. propensities: how probable it was that it
    would be; a decision that could not have been another one has 1 or 0. rewards: in [-1, 1].
    """

    actions: Matrix | None = None
    propensities: Matrix | None = None
    rewards: Matrix | None = None


class JudgedBatches(Dataset[TrainingBatch]):
    """A fixed number of questions, each decided by the seed and its position alone.

    `replay_share` of them are about the replayed sets, if there are any; the others about judged documents. An answer
    weighs the inverse of the propensity of the decision that it is about, `max_weight` at most: labels that
    are rarely given are rarely judged.
    """

    def __init__(
        self,
        decisions: LoggedDecisions,
        replay: Sequence[LabelledSet],
        *,
        texts: int,
        replay_share: float,
        max_weight: float,
        size: int,
        seed: int,
    ) -> None:
        self._decisions = decisions.where(np.count_nonzero(decisions.judged, axis=1) > 0)
        if not len(self._decisions) and not replay:
            raise TrainingError("no document is judged, and there is nothing to replay; bring feedback, or wait for it")
        self._weights = self._decisions.weights(max_weight)
        config = SamplingConfig(texts=texts, max_labels=_MAX_LABELS)
        self._replayed = BatchSampler(replay, config, size=size, seed=seed) if replay else None
        self._replay_share = replay_share if len(self._decisions) else 1.0
        self._texts, self._size, self._seed = texts, size, seed

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, position: int) -> TrainingBatch:
        rng = np.random.default_rng((self._seed, position, 1))
        if self._replayed is not None and rng.random() < self._replay_share:
            return self._replayed[position]
        rows, columns = _drawn(self._decisions.judged, self._texts, rng)
        at = np.ix_(rows, columns)
        return TrainingBatch(
            tuple(self._decisions.texts[row] for row in rows),
            tuple(self._decisions.label_set.texts[column] for column in columns),
            self._decisions.targets[at],
            self._weights[at],
        )


class LoggedBatches(Dataset[LoggedBatch]):
    """A fixed number of questions about documents whose decisions were rewarded, each decided by seed and position."""

    def __init__(self, decisions: LoggedDecisions, *, texts: int, size: int, seed: int) -> None:
        self._decisions = decisions.where(np.count_nonzero(decisions.rewarded, axis=1) > 0)
        if not len(self._decisions):
            raise TrainingError("no decision was rewarded; bring feedback, or wait for it")
        self._texts, self._size, self._seed = texts, size, seed

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, position: int) -> LoggedBatch:
        rng = np.random.default_rng((self._seed, position, 2))
        decisions = self._decisions
        rows, columns = _drawn(decisions.rewarded, self._texts, rng)
        at = np.ix_(rows, columns)
        rewarded, chosen = decisions.rewarded[at], decisions.chosen[at]
        likely = np.where(np.isnan(decisions.propensities[at]), chosen, decisions.propensities[at])
        nothing = np.float32(np.nan)
        return LoggedBatch(
            tuple(decisions.texts[row] for row in rows),
            tuple(decisions.label_set.texts[column] for column in columns),
            decisions.targets[at],
            actions=np.where(rewarded, chosen, nothing),
            propensities=np.where(rewarded, likely, nothing),
            rewards=np.where(rewarded, decisions.rewards[at], nothing),
        )


def _drawn(known: Mask, texts: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows, and columns in a random order: those that something is known about first, if not all find room."""
    rows = rng.permutation(len(known))[:texts]
    columns = rng.permutation(known.shape[1])
    unknown = np.count_nonzero(known[rows], axis=0)[columns] == 0
    chosen = columns[np.argsort(unknown, kind="stable")][:_MAX_LABELS]
    return rows, rng.permutation(chosen)
