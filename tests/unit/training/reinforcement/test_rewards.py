"""Rewards against values computed by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gliclass_spark.config.retraining import RewardWeights
from gliclass_spark.training.reinforcement.rewards import text_rewards

ACTIONS = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
TARGETS = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
ONE_EACH = {"f1": 0.5, "recall": 0.5, "precision": 0.5, "accuracy": 0.5}


def only(part: str) -> RewardWeights:
    return RewardWeights(**{"f1": 0.0, part: 1.0})


@pytest.mark.parametrize("part", list(ONE_EACH))
def test_each_part_of_the_reward_is_what_its_name_says(part: str) -> None:
    assert text_rewards(ACTIONS, TARGETS, only(part)).tolist() == [ONE_EACH[part]]
    uneven = torch.tensor([[1.0, 1.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    expected = {"f1": 0.5, "recall": 1.0, "precision": 1 / 3, "accuracy": 0.5}
    assert text_rewards(*uneven, only(part)).tolist() == pytest.approx([expected[part]])


def test_a_reward_is_the_weighted_mean_of_its_parts() -> None:
    actions, targets = torch.tensor([[1.0, 1.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    rewards = text_rewards(actions, targets, RewardWeights(f1=0, recall=3, precision=1)).tolist()
    assert rewards == pytest.approx([(3 * 1.0 + 1 / 3) / 4])


def test_no_label_given_where_none_holds_has_the_full_reward() -> None:
    nothing = torch.zeros(1, 3)
    for part in ONE_EACH:
        assert text_rewards(nothing, nothing, only(part)).tolist() == [1.0]


def test_rewards_without_any_weight_are_refused() -> None:
    with pytest.raises(ValidationError, match="every reward would be 0"):
        RewardWeights(f1=0)


BITS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=8)


@given(BITS, st.lists(st.booleans(), max_size=5), st.sampled_from(list(ONE_EACH)))
def test_padding_counts_neither_for_nor_against(pairs: list[tuple[bool, bool]], padded: list[bool], part: str) -> None:
    actions, targets = (torch.tensor([[float(pair[side]) for pair in pairs]]) for side in (0, 1))
    padding = torch.tensor([[float(action) for action in padded]]).reshape(1, -1)
    longer = torch.cat([actions, padding], dim=1), torch.cat([targets, torch.full_like(padding, -1)], dim=1)
    assert text_rewards(*longer, only(part)).tolist() == text_rewards(actions, targets, only(part)).tolist()
