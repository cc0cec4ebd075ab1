"""Training batches drawn from feedback: judged labels, rewarded decisions, and replayed sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gliclass_spark.config.training import SamplingConfig
from gliclass_spark.errors import TrainingError
from gliclass_spark.training.data.batches import BatchSampler, TrainingBatch
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.data.logged_decisions import LoggedDecisions, Mask, Matrix

# A joint model has no room for more labels beside a text.
_MAX_LABELS = 64


@dataclass(frozen=True)
class LoggedBatch(TrainingBatch):
    """Logged decisions and their rewards: (texts, labels) float32 each, NaN where there is no rewarded decision.

    actions: 1 if the text was given the label, 0 if not.
    propensities: probability of giving the label under the behaviour policy; 1 or 0 without exploration.
    rewards: in [-1, 1].
    """

    actions: Matrix | None = None
    propensities: Matrix | None = None
    rewards: Matrix | None = None


class JudgedBatches(Dataset[TrainingBatch]):
    """A fixed number of batches of judged documents and of replayed sets, each determined by seed and position.

    `replay_share` of the batches are drawn from the replayed sets, if there are any. A judgement is weighted by the
    inverse propensity of the judged decision, at most `max_weight`: labels that are rarely given are rarely judged.
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
        rows, columns = _draw(self._decisions.judged, self._texts, rng)
        cells = np.ix_(rows, columns)
        return TrainingBatch(
            tuple(self._decisions.texts[row] for row in rows),
            tuple(self._decisions.label_set.texts[column] for column in columns),
            self._decisions.targets[cells],
            self._weights[cells],
        )


class LoggedBatches(Dataset[LoggedBatch]):
    """A fixed number of batches of rewarded decisions, each determined by seed and position."""

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
        rows, columns = _draw(decisions.rewarded, self._texts, rng)
        cells = np.ix_(rows, columns)
        rewarded, actions, propensities = (
            matrix[cells] for matrix in (decisions.rewarded, decisions.actions, decisions.propensities)
        )
        # Without exploration the logged action was certain.
        propensities = np.where(np.isnan(propensities), actions, propensities)
        nan = np.float32(np.nan)
        return LoggedBatch(
            tuple(decisions.texts[row] for row in rows),
            tuple(decisions.label_set.texts[column] for column in columns),
            decisions.targets[cells],
            actions=np.where(rewarded, actions, nan),
            propensities=np.where(rewarded, propensities, nan),
            rewards=np.where(rewarded, decisions.rewards[cells], nan),
        )


def _draw(available: Mask, texts: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows, and columns in a random order. Of too many columns, those with something available are kept first."""
    rows = rng.permutation(len(available))[:texts]
    columns = rng.permutation(available.shape[1])
    is_empty = np.count_nonzero(available[rows], axis=0)[columns] == 0
    kept = columns[np.argsort(is_empty, kind="stable")][:_MAX_LABELS]
    return rows, rng.permutation(kept)
