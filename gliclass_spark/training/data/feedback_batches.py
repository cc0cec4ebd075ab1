"""Training batches drawn from feedback: judged labels, rewarded decisions, and replayed sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gliclass_spark.config.retraining import NotGiven
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

    actions: 1 if the text was given the label, 0 if not. rewards: in [-1, 1].
    inverse_propensities: 1 / b(a) of the action under the behaviour policy b, clipped and normalized.
    sharing: (texts, labels) bool, whether the reward is that of all labels of the text together.
    rewards_both_actions: whether giving and not giving a label are both rewarded, in all of the feedback on labels.
    """

    actions: Matrix | None = None
    inverse_propensities: Matrix | None = None
    rewards: Matrix | None = None
    sharing: Mask | None = None
    rewards_both_actions: bool = True


class JudgedBatches(Dataset[TrainingBatch]):
    """A fixed number of batches of judged documents and of replayed sets, each determined by seed and position.

    `replay_share` of the batches are drawn from the replayed sets, if there are any. A document is judged by verdicts
    and by what rewards imply. A judgement counts by the inverse propensity of the judged decision (see
    `LoggedDecisions.weights` for `max_weight`), because labels that are rarely given are rarely judged, and by the size
    of its reward: half a minute's reading says less than a verdict.
    """

    def __init__(
        self,
        decisions: LoggedDecisions,
        replay: Sequence[LabelledSet],
        *,
        texts: int,
        replay_share: float,
        max_weight: float | None,
        size: int,
        seed: int,
    ) -> None:
        is_judged = decisions.training_targets >= 0
        rows = np.count_nonzero(is_judged, axis=1) > 0
        self._decisions = decisions.where(rows)
        if not len(self._decisions) and not replay:
            raise TrainingError("no document is judged, and there is nothing to replay; bring feedback, or wait for it")
        self._is_judged, self._targets = is_judged[rows], decisions.training_targets[rows]
        self._weights = decisions.training_weights(max_weight)[rows]
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
        rows, columns = _draw(self._is_judged, self._texts, rng)
        cells = np.ix_(rows, columns)
        return TrainingBatch(
            tuple(self._decisions.texts[row] for row in rows),
            tuple(self._decisions.label_set.texts[column] for column in columns),
            self._targets[cells],
            self._weights[cells],
        )


class LoggedBatches(Dataset[LoggedBatch]):
    """A fixed number of batches of rewarded decisions, each determined by seed and position.

    A reward of a document is the reward of the action on each of its labels that has none of its own.
    max_weight: see `LoggedDecisions.weights`. not_given: "zero" rewards labels that are known to be not given with 0,
    where they have no reward; "unknown" leaves them out.
    """

    def __init__(
        self,
        decisions: LoggedDecisions,
        *,
        texts: int,
        size: int,
        seed: int,
        max_weight: float | None = None,
        not_given: NotGiven = "unknown",
    ) -> None:
        if not_given == "zero":
            decisions = decisions.with_reward_of_not_given()
        is_rewarded = decisions.rewarded | decisions.sharing
        self._decisions = decisions.where(np.count_nonzero(is_rewarded, axis=1) > 0)
        if not len(self._decisions):
            raise TrainingError("no decision was rewarded; bring feedback, or wait for it")
        self._rewards_both_actions = self._decisions.rewards_both_actions
        # Over all actions of a behaviour policy, the mean of 1 / b(a) is their number.
        action_counts = np.where(self._decisions.sharing | self._rewards_both_actions, np.float32(2), np.float32(1))
        self._inverse_propensities = self._decisions.weights(max_weight) * action_counts
        self._rewards = np.where(self._decisions.rewarded, self._decisions.rewards, self._decisions.shared_rewards)
        self._is_rewarded = self._decisions.rewarded | self._decisions.sharing
        self._texts, self._size, self._seed = texts, size, seed

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, position: int) -> LoggedBatch:
        rng = np.random.default_rng((self._seed, position, 2))
        decisions = self._decisions
        rows, columns = _draw(self._is_rewarded, self._texts, rng)
        cells = np.ix_(rows, columns)
        actions, inverse_propensities, rewards = (
            np.where(self._is_rewarded[cells], matrix[cells], np.float32(np.nan))
            for matrix in (decisions.actions, self._inverse_propensities, self._rewards)
        )
        return LoggedBatch(
            tuple(decisions.texts[row] for row in rows),
            tuple(decisions.label_set.texts[column] for column in columns),
            decisions.targets[cells],
            actions=actions,
            inverse_propensities=inverse_propensities,
            rewards=rewards,
            sharing=decisions.sharing[cells],
            rewards_both_actions=self._rewards_both_actions,
        )


def _draw(available: Mask, texts: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows, and columns in a random order. Of too many columns, those with something available are kept first."""
    rows = rng.permutation(len(available))[:texts]
    columns = rng.permutation(available.shape[1])
    is_empty = np.count_nonzero(available[rows], axis=0)[columns] == 0
    kept = columns[np.argsort(is_empty, kind="stable")][:_MAX_LABELS]
    return rows, rng.permutation(kept)
