"""Logged decisions: how a snapshot is read, and the batches drawn from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gliclass_spark.errors import TrainingError
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.feedback_batches import JudgedBatches, LoggedBatches
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.data.logged_decisions import Evidence, LoggedDecisions, read_decisions

LABELS = LabelSet.of("cat", "dog", "owl", name="animals")
SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("text", pa.string()),
        ("label", pa.string()),
        ("target", pa.int8()),
        ("reward", pa.float32()),
        ("chosen", pa.bool_()),
        ("propensity", pa.float64()),
        ("score", pa.float32()),
        ("held_out", pa.bool_()),
    ]
)


def row(doc_id: str, label: str, **facts: Any) -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "text": f"text {doc_id}",
        "label": label,
        "target": None,
        "reward": None,
        "chosen": None,
        "propensity": None,
        "score": 0.5,
        "held_out": False,
        **facts,
    }


def snapshot(folder: Path, *rows: dict[str, Any]) -> LoggedDecisions:
    pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), folder / "feedback.parquet")
    (folder / "snapshot.json").write_text(json.dumps({"label_set": json.loads(LABELS.canonical_json)}))
    return read_decisions(folder)


def test_each_document_is_a_row_and_each_label_a_column(tmp_path: Path) -> None:
    decisions = snapshot(
        tmp_path,
        row("b", "dog", target=1, chosen=True, propensity=0.25, reward=1.0),
        row("a", "owl", target=0, held_out=True),
        row("b", "cat", target=0, chosen=False, propensity=0.25, reward=-1.0),
    )
    nan = np.nan
    assert decisions.texts == ("text b", "text a")
    assert decisions.targets.tolist() == [[0, 1, -1], [-1, -1, 0]]
    np.testing.assert_array_equal(decisions.actions, [[0, 1, nan], [nan, nan, nan]])
    np.testing.assert_array_equal(decisions.rewards, [[-1, 1, nan], [nan, nan, nan]])
    assert decisions.action_propensities().tolist() == [[0.75, 0.25, 1], [1, 1, 1]]
    assert decisions.held_out.tolist() == [False, True]
    assert decisions.judged.sum() == 3
    assert decisions.rewarded.sum() == 2
    assert decisions.labelled("x").targets == ((1,),)


@pytest.mark.parametrize(
    ("facts", "target"),
    [
        ({"target": 0, "chosen": True, "reward": 1.0}, 0),
        ({"chosen": True, "reward": 0.2}, 1),
        ({"chosen": True, "reward": -0.2}, 0),
        ({"chosen": False, "reward": 0.2}, 0),
        ({"chosen": False, "reward": -0.2}, 1),
        ({"chosen": True, "reward": 0.0}, -1),
        ({"reward": 1.0}, -1),
    ],
)
def test_without_a_verdict_the_reward_tells_whether_the_label_holds(
    facts: dict[str, Any], target: float, tmp_path: Path
) -> None:
    assert snapshot(tmp_path, row("a", "dog", **facts)).targets[0, 1] == target


def test_a_snapshot_that_is_damaged_or_of_another_label_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no snapshot that can be read"):
        read_decisions(tmp_path)
    with pytest.raises(TrainingError, match="a label that its label set lacks: 'mouse'"):
        snapshot(tmp_path, row("a", "mouse"))


def test_a_judgement_is_weighted_by_inverse_propensity(tmp_path: Path) -> None:
    decisions = snapshot(
        tmp_path,
        row("a", "cat", target=1, chosen=True, propensity=0.5),
        row("a", "dog", target=0, chosen=False, propensity=0.2),
        row("a", "owl", target=1, chosen=True, propensity=0.01),
    )
    batches = JudgedBatches(decisions, (), texts=4, replay_share=0.5, max_weight=10, size=3, seed=0)
    for batch in (batches[position] for position in range(3)):
        weights = dict(zip(batch.labels, batch.weights[0].tolist(), strict=True))
        assert weights == {"cat": 2.0, "dog": 1.25, "owl": 10.0}
    total, squares = 2 + 1.25 + 10, 4 + 1.25**2 + 100
    assert decisions.evidence(10) == Evidence(3, pytest.approx(total**2 / squares, rel=1e-6), clipped=1)
    assert decisions.where(np.array([False])).evidence(10) == Evidence(0, 0.0, 0)


def test_batches_are_determined_by_seed_and_position_and_some_are_replayed(tmp_path: Path) -> None:
    decisions = snapshot(tmp_path, row("a", "cat", target=1), row("b", "dog", target=0))
    letters = LabelledSet("letters", ("x", "y"), ("x is x", "y is y"), ((0,), (1,)))

    def texts(seed: int) -> list[tuple[str, ...]]:
        batches = JudgedBatches(decisions, [letters], texts=2, replay_share=0.5, max_weight=1, size=20, seed=seed)
        return [batches[position].texts for position in range(20)]

    assert texts(1) == texts(1) != texts(2)
    assert {text for batch in texts(1) for text in batch} == {"text a", "text b", "x is x", "y is y"}


def test_rewarded_labels_are_kept_before_others(tmp_path: Path) -> None:
    names = [f"label {number}" for number in range(100)]
    rewards = np.full((1, 100), np.nan, dtype=np.float32)
    rewards[0, 99] = 1.0
    nothing = np.full_like(rewards, np.nan)
    label_set = LabelSet.of(*names)
    targets = np.full_like(rewards, -1.0)
    one = LoggedDecisions(label_set, ("a",), targets, rewards, np.ones_like(rewards), nothing, np.zeros(1, dtype=bool))
    batch = LoggedBatches(one, texts=4, size=1, seed=0)[0]
    assert len(batch.labels) == 64
    assert batch.rewards[0, batch.labels.index("label 99")] == 1.0
    assert np.isnan(batch.rewards).sum() == 63


def test_batches_without_feedback_are_refused(tmp_path: Path) -> None:
    decisions = snapshot(tmp_path, row("a", "cat"))
    with pytest.raises(TrainingError, match="no document is judged, and there is nothing to replay"):
        JudgedBatches(decisions, (), texts=4, replay_share=0.5, max_weight=1, size=1, seed=0)
    with pytest.raises(TrainingError, match="no decision was rewarded"):
        LoggedBatches(decisions, texts=4, size=1, seed=0)
