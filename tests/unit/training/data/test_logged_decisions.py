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


DOCUMENTS = pa.schema(
    [
        ("doc_id", pa.string()),
        ("text", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("reward", pa.float32()),
        ("scores", pa.map_(pa.string(), pa.float32())),
        ("propensities", pa.map_(pa.string(), pa.float64())),
        ("held_out", pa.bool_()),
    ]
)


def document(doc_id: str, labels: list[str], reward: float, **facts: Any) -> dict[str, Any]:
    """A document with one reward for its labels, of a decision that knew "cat" and "dog"."""
    return {
        "doc_id": doc_id,
        "text": f"text {doc_id}",
        "labels": labels,
        "reward": reward,
        "scores": [("cat", 0.5), ("dog", 0.5)],
        "propensities": [("cat", 0.9), ("dog", 0.2)],
        "held_out": False,
        **facts,
    }


def snapshot(folder: Path, *rows: dict[str, Any], documents: list[dict[str, Any]] | None = None) -> LoggedDecisions:
    pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), folder / "feedback.parquet")
    content = {"label_set": json.loads(LABELS.canonical_json), "counts": {"rewarded_documents": len(documents or ())}}
    if documents:
        pq.write_table(pa.Table.from_pylist(documents, DOCUMENTS), folder / "documents.parquet")
    (folder / "snapshot.json").write_text(json.dumps(content))
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
    assert decisions.rewards_both_actions
    assert decisions.labelled("x").targets == ((1,),)


@pytest.mark.parametrize(
    ("facts", "target", "implied", "size"),
    [
        ({"target": 0, "chosen": True, "reward": 1.0}, 0, 0, 1.0),
        ({"target": 1, "chosen": True, "reward": 0.3}, 1, 1, 0.3),
        ({"target": 1, "chosen": True, "reward": 0.0}, 1, 1, 1.0),
        ({"target": 1}, 1, 1, 1.0),
        ({"chosen": True, "reward": 0.05}, -1, 1, 0.05),
        ({"chosen": True, "reward": -0.2}, -1, 0, 0.2),
        ({"chosen": False, "reward": 0.2}, -1, 0, 0.2),
        ({"chosen": False, "reward": -0.2}, -1, 1, 0.2),
        ({"chosen": True, "reward": 0.0}, -1, -1, 0.0),
        ({"reward": 1.0}, -1, -1, 1.0),
    ],
)
def test_only_a_verdict_is_truth_and_a_reward_implies_a_target_of_its_size(
    facts: dict[str, Any], target: float, implied: float, size: float, tmp_path: Path
) -> None:
    decisions = snapshot(tmp_path, row("a", "dog", **facts))
    assert decisions.targets[0, 1] == target
    assert decisions.judged[0, 1] == (target >= 0)
    assert decisions.training_targets[0, 1] == implied
    assert decisions.reward_sizes[0, 1] == pytest.approx(size)


def test_a_short_dwell_counts_less_than_a_long_one_and_a_verdict_most(tmp_path: Path) -> None:
    decisions = snapshot(
        tmp_path,
        row("a", "cat", chosen=True, reward=0.05),
        row("a", "dog", chosen=True, reward=0.95),
        row("a", "owl", target=1, chosen=True, reward=1.0),
    )
    batch = JudgedBatches(decisions, (), texts=4, replay_share=0, max_weight=None, size=1, seed=0)[0]
    weights = dict(zip(batch.labels, batch.weights[0].tolist(), strict=True))
    assert weights == pytest.approx({"cat": 0.05, "dog": 0.95, "owl": 1.0})
    assert batch.targets.tolist() == [[1.0, 1.0, 1.0]]


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
    total, squares = 2 + 1.25 + 10, 4 + 1.25**2 + 100
    batches = JudgedBatches(decisions, (), texts=4, replay_share=0.5, max_weight=10, size=3, seed=0)
    for batch in (batches[position] for position in range(3)):
        weights = dict(zip(batch.labels, batch.weights[0].tolist(), strict=True))
        assert weights == pytest.approx({"cat": 6 / total, "dog": 3.75 / total, "owl": 30 / total})
    size = pytest.approx(total**2 / squares, rel=1e-6)
    assert decisions.evidence(10) == Evidence(3, 3, 1, size, 10, clipped=1, impossible=0)
    assert decisions.where(np.array([False])).evidence(10) == Evidence(0, 0, 0, 0.0, 10, 0, 0)


def test_weights_are_clipped_where_a_twentieth_of_the_judgements_is_effective(tmp_path: Path) -> None:
    rows = [row(str(number), "cat", target=1, chosen=True, propensity=0.98) for number in range(1000)]
    rows += [row(f"x{number}", "dog", target=1, chosen=True, propensity=0.002) for number in range(20)]
    decisions = snapshot(tmp_path, *rows)
    evidence = decisions.evidence()
    assert (evidence.judgements, evidence.explored, evidence.clipped) == (1020, 20, 20)
    assert evidence.effective_sample_size == pytest.approx(51, rel=1e-3)
    assert 30 < evidence.max_weight < 500
    weights = decisions.weights()
    assert weights[decisions.judged].mean() == pytest.approx(1.0, abs=1e-4)
    assert weights[-1, 1] / weights[0, 0] == pytest.approx(evidence.max_weight * 0.98, rel=1e-3)


@pytest.mark.parametrize(("chosen", "propensity"), [(True, 0.0), (False, 1.0), (True, 1.5), (True, None)])
def test_a_propensity_that_is_missing_or_impossible_counts_as_1(
    chosen: bool, propensity: float | None, tmp_path: Path
) -> None:
    decisions = snapshot(
        tmp_path,
        row("a", "cat", target=1, chosen=chosen, propensity=propensity, reward=1.0),
        row("b", "cat", target=0, chosen=True, propensity=0.5, reward=-1.0),
    )
    assert decisions.action_propensities()[:, 0].tolist() == [1.0, 0.5]
    assert decisions.evidence().impossible == int(propensity in (0.0, 1.0))
    assert np.isfinite(decisions.weights()).all()


@pytest.mark.parametrize(
    ("rewards", "unknown", "zero"), [([], False, False), ([-0.6, -0.6], False, True), ([0.1, -0.6], True, True)]
)
def test_equal_rewards_teach_something_only_if_not_giving_is_worth_0(
    rewards: list[float], unknown: bool, zero: bool, tmp_path: Path
) -> None:
    rewarded = [row(str(number), "cat", chosen=True, reward=reward) for number, reward in enumerate(rewards)]
    decisions = snapshot(tmp_path, row("a", "owl", target=1), *rewarded)
    assert (decisions.rewards_differ("unknown"), decisions.rewards_differ("zero")) == (unknown, zero)


def test_a_label_that_is_not_given_earns_nothing_if_the_file_says_so(tmp_path: Path) -> None:
    decisions = snapshot(
        tmp_path,
        row("a", "cat", chosen=True, reward=0.8, propensity=0.9),
        row("a", "dog", chosen=False, target=1, propensity=0.1),
    )
    assert not decisions.rewards_both_actions
    unknown, zero = (
        LoggedBatches(decisions, texts=1, size=1, seed=0, not_given=not_given)[0] for not_given in ("unknown", "zero")
    )
    nan = np.nan
    for batch, rewards, inverse_propensities in (
        (unknown, {"cat": 0.8, "dog": nan}, {"cat": 1.0, "dog": nan}),
        # The same propensity, 0.9 of the action that was taken: a mean of 2, for two actions.
        (zero, {"cat": 0.8, "dog": 0.0}, {"cat": 2.0, "dog": 2.0}),
    ):
        columns = [batch.labels.index(label) for label in rewards]
        np.testing.assert_allclose(batch.rewards[0, columns], [*rewards.values()])
        np.testing.assert_allclose(batch.inverse_propensities[0, columns], [*inverse_propensities.values()])
    assert (unknown.rewards_both_actions, zero.rewards_both_actions) == (False, True)


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


def test_a_reward_of_a_document_is_that_of_all_its_actions(tmp_path: Path) -> None:
    decisions = snapshot(
        tmp_path,
        row("other", "owl", target=1),
        documents=[document("good", ["cat"], 0.5), document("bad", ["cat", "dog"], -1.0, held_out=True)],
    )
    nan = np.nan
    assert decisions.texts == ("text other", "text good", "text bad")
    np.testing.assert_array_equal(decisions.document_rewards, np.float32([nan, 0.5, -1]))
    np.testing.assert_array_equal(decisions.actions, [[nan, nan, nan], [1, 0, nan], [1, 1, nan]])
    np.testing.assert_array_equal(decisions.shared_rewards, np.float32([[nan] * 3, [0.5, 0.5, nan], [-1, -1, nan]]))
    np.testing.assert_allclose(decisions.action_propensities(), [[1, 1, 1], [0.9, 0.8, 1], [0.9, 0.2, 1]], rtol=1e-6)
    assert decisions.held_out.tolist() == [False, False, True]
    # The gate's F1 counts targets, and its reward those of labels.
    assert (decisions.judged.sum(), decisions.rewarded.sum()) == (1, 0)
    assert decisions.labelled("x").texts == ("text other",)
    assert decisions.where(decisions.held_out).shared_rewards.tolist()[0][:2] == [-1, -1]


def test_supervised_training_takes_the_labels_of_a_good_document_as_true_by_its_reward_and_none_of_a_bad_one(
    tmp_path: Path,
) -> None:
    documents = [document("good", ["cat"], 0.5), document("bad", ["cat"], -1.0), document("neither", ["cat"], 0.0)]
    decisions = snapshot(tmp_path, documents=documents)
    assert decisions.training_targets.tolist() == [[1, 0, -1], [-1, -1, -1], [-1, -1, -1]]
    assert decisions.reward_sizes[0].tolist() == [0.5, 0.5, 1.0]
    batch = JudgedBatches(decisions, (), texts=4, replay_share=0, max_weight=1, size=1, seed=0)[0]
    assert batch.texts == ("text good",)
    weights = dict(zip(batch.labels, batch.weights[0].tolist(), strict=True))
    assert (weights["cat"], weights["dog"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("own", "target", "weight"),
    [
        ({"target": 0, "chosen": True, "reward": -1.0}, 0, 1.0),
        ({"target": 0}, 0, 1.0),
        ({"chosen": True, "reward": -0.25}, 0, 0.25),
        ({"chosen": True, "reward": 0.0}, -1, 0.0),
        ({"reward": -1.0}, -1, 1.0),
    ],
)
def test_feedback_on_a_label_takes_precedence_over_its_documents(
    own: dict[str, Any], target: float, weight: float, tmp_path: Path
) -> None:
    decisions = snapshot(tmp_path, row("a", "cat", **own), documents=[document("a", ["cat"], 0.5)])
    assert decisions.shared_rewards[0, 1] == 0.5
    assert not decisions.sharing[0, 0]
    assert decisions.training_targets[0, :2].tolist() == [target, 0]
    assert decisions.reward_sizes[0, :2].tolist() == [weight, 0.5]
    assert decisions.rewarded[0, 0] == ("chosen" in own)


def test_ppo_gets_a_documents_reward_for_each_action_beside_rewards_of_labels(tmp_path: Path) -> None:
    decisions = snapshot(
        tmp_path,
        row("a", "cat", chosen=True, reward=-0.5, propensity=0.9),
        documents=[document("a", ["cat"], 0.5), document("b", ["dog"], -1.0)],
    )
    assert decisions.rewards_differ("unknown")
    assert not snapshot(tmp_path, documents=[document("b", ["dog"], 1.0)]).rewards_differ("unknown")
    for not_given in ("unknown", "zero"):
        batch = LoggedBatches(decisions, texts=2, size=1, seed=0, max_weight=100, not_given=not_given)[0]
        cells = {
            (text, label): (batch.rewards[line, column], batch.sharing[line, column], batch.actions[line, column])
            for line, text in enumerate(batch.texts)
            for column, label in enumerate(batch.labels)
            if not np.isnan(batch.rewards[line, column])
        }
        assert cells == {
            ("text a", "cat"): (-0.5, False, 1),
            ("text a", "dog"): (0.5, True, 0),
            ("text b", "cat"): (-1.0, True, 0),
            ("text b", "dog"): (-1.0, True, 1),
        }
        assert not batch.rewards_both_actions
        weights = {
            (text, label): batch.inverse_propensities[line, column]
            for line, text in enumerate(batch.texts)
            for column, label in enumerate(batch.labels)
        }
        # Both actions on a document's label are rewarded, and of "cat" of "a" giving alone: 1 / .1 and 1 / .9.
        assert weights["text b", "cat"] / weights["text a", "cat"] == pytest.approx(18, rel=1e-5)
