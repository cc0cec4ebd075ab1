"""Several signals on one decision are joined to one, by Spark and, with the same statement, without it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.feedback.signal_join import Resolve, join_statement
from gliclass_spark.retraining.feedback_evidence import FeedbackEvidence, count_evidence
from gliclass_spark.runs.delta_reader import delta_table, query
from gliclass_spark.spark.delta.local_rows import local_rows
from gliclass_spark.spark.delta.schema import FEEDBACK
from gliclass_spark.spark.transforms.signals import join_signals

ZERO = datetime(2026, 3, 1, tzinfo=UTC)

Case = tuple[list[tuple[str, int, float | None, bool | None]], tuple[int | None, float | None, bool]]
# Signals on a decision (verdict, hour, reward, chosen), each of a source of its own, and the expected target, reward
# and contradiction.
JOINED: dict[str, Case] = {
    "explicit beats implicit": ([("accepted", 0, 1.0, True), ("clicked", 9, -1.0, True)], (1, 1.0, False)),
    "the latest wins": ([("accepted", 0, 1.0, True), ("rejected", 1, -1.0, True)], (0, -1.0, False)),
    "implicit ones are averaged": ([("clicked", 0, 1.0, True), ("dwelled", 1, 0.5, True)], (None, 0.75, False)),
    "at the same time they cancel": ([("accepted", 0, 1.0, True), ("rejected", 0, -1.0, True)], (None, None, True)),
    "cancelled, implicit ones count": (
        [("accepted", 1, 1.0, True), ("rejected", 1, -1.0, True), ("accepted", 0, 1.0, True), ("loss", 0, 0.5, True)],
        (None, 0.5, True),
    ),
    "two equal targets are no contradiction": (
        [("accepted", 0, 1.0, True), ("rated", 0, 0.5, True)],
        (1, 0.75, False),
    ),
    "a good rating of a label that was left out": ([("rated", 0, 0.5, False)], (0, 0.5, False)),
    "a bad rating of a label that was left out": ([("rated", 0, -0.5, False)], (1, -0.5, False)),
    "a rating of neither kind": ([("rated", 0, 0.0, True)], (None, 0.0, False)),
    "a late correction": ([("corrected", 0, None, None)], (1, None, False)),
}


def signal(doc_id: str, verdict: str, **facts: Any) -> dict[str, Any]:
    row = {
        "doc_id": doc_id,
        "label_set_hash": "h",
        "label": "lake",
        "verdict": verdict,
        "source": "ann",
        "observed_at": ZERO,
        "content_hash": "c",
        "chosen": True,
        **facts,
    }
    return {name: row.get(name) for name in FEEDBACK.names}


def table(spark: SparkSession, rows: Sequence[dict[str, Any]]) -> DataFrame:
    return local_rows(spark, rows, FEEDBACK)


def joined(spark: SparkSession, cases: dict[str, Case], resolve: Resolve) -> dict[str, Any]:
    rows = [
        signal(name, verdict, reward=reward, source=str(index), observed_at=at(hour), chosen=chosen)
        for name, (signals, _) in cases.items()
        for index, (verdict, hour, reward, chosen) in enumerate(signals)
    ]
    return {row["doc_id"]: row for row in join_signals(table(spark, rows), resolve).collect()}


def at(hour: int) -> datetime:
    return ZERO + timedelta(hours=hour)


def test_several_signals_on_one_decision_are_joined_by_the_rules(spark: SparkSession) -> None:
    decisions = joined(spark, JOINED, "newest")
    assert {name: (row["target"], row["reward"], row["contradicting"]) for name, row in decisions.items()} == {
        name: expected for name, (_, expected) in JOINED.items()
    }
    assert {name: row["signals"] for name, row in decisions.items()} == {
        name: len(signals) for name, (signals, _) in JOINED.items()
    }
    assert decisions["the latest wins"]["observed_at"].astimezone(UTC) == ZERO + timedelta(hours=1)
    assert {name for name, row in decisions.items() if row["late"]} == {"a late correction"}


RIGHT, WRONG = (1, 1.0, False), (0, -1.0, False)
OUTVOTED: dict[str, Case] = {
    "two against the newest": (
        [("accepted", 0, 1.0, True), ("accepted", 1, 1.0, True), ("rejected", 2, -1.0, True)],
        RIGHT,
    ),
    "a tie is decided by the newest": ([("accepted", 0, 1.0, True), ("rejected", 1, -1.0, True)], WRONG),
    "a tie of the same time cancels": (
        [("accepted", 0, 1.0, True), ("rejected", 0, -1.0, True), ("dwelled", 1, 0.2, True)],
        (None, 0.2, True),
    ),
    "one against one and a rating of neither kind": (
        [("rejected", 0, -1.0, True), ("accepted", 1, 1.0, True), ("rated", 2, 0.0, True)],
        (None, 0.0, False),
    ),
    "those who agree give the reward": (
        [("rated", 0, 0.5, True), ("accepted", 1, 1.0, True), ("rejected", 2, -1.0, True)],
        (1, 0.75, False),
    ),
    "implicit signals have no vote": (
        [("rejected", 0, -1.0, True), ("clicked", 1, 1.0, True), ("clicked", 2, 1.0, True)],
        WRONG,
    ),
    "one alone": ([("rejected", 0, -1.0, True)], WRONG),
}


def test_a_majority_of_sources_outvotes_the_newest(spark: SparkSession) -> None:
    decisions = joined(spark, OUTVOTED, "majority")
    assert {name: (row["target"], row["reward"], row["contradicting"]) for name, row in decisions.items()} == {
        name: expected for name, (_, expected) in OUTVOTED.items()
    }
    newest = joined(spark, OUTVOTED, "newest")
    assert newest["two against the newest"]["target"] == newest["those who agree give the reward"]["target"] == 0


def test_a_source_has_one_vote_its_latest(spark: SparkSession) -> None:
    rows = [
        *(signal("changed its mind", "accepted", reward=1.0, observed_at=at(hour)) for hour in range(3)),
        signal("changed its mind", "rejected", reward=-1.0, observed_at=at(3)),
        signal("said it often", "rejected", reward=-1.0, source="bob", observed_at=at(9)),
        *(signal("said it often", "accepted", reward=1.0, observed_at=at(hour)) for hour in range(3)),
        *(signal("twice at once", verdict, reward=1.0, observed_at=at(2)) for verdict in ("accepted", "corrected")),
        signal("twice at once", "rejected", reward=-1.0, source="bob", observed_at=at(3)),
    ]
    decisions = {row["doc_id"]: row["target"] for row in join_signals(table(spark, rows), "majority").collect()}
    assert decisions == {"changed its mind": 0, "said it often": 0, "twice at once": 0}


def document(doc_id: str, verdict: str, labels: list[str] | None, **facts: Any) -> dict[str, Any]:
    chosen = None if labels is None else True
    return signal(doc_id, verdict, **{"label": None, "labels": labels, "chosen": chosen, **facts})


def test_signals_on_a_document_give_a_reward_for_its_latest_labels(spark: SparkSession) -> None:
    rows = [
        document("accepted", "accepted", ["lake"], reward=1.0),
        document("explicit ones first", "rejected", ["lake"], reward=-1.0),
        document("explicit ones first", "clicked", ["lake"], reward=1.0, source="site", observed_at=at(1)),
        document("contradicting", "accepted", ["lake"], reward=1.0),
        document("contradicting", "rejected", ["lake"], reward=-1.0),
        document("other labels since", "accepted", ["lake"], reward=1.0),
        document("other labels since", "clicked", ["lake", "spam"], reward=0.5, observed_at=at(1)),
        document("late", "accepted", None),
        document("a label's own", "rated", ["lake"], reward=0.5),
        signal("a label's own", "rejected", reward=-1.0),
    ]
    decisions = {(row["doc_id"], row["label"]): row for row in join_signals(table(spark, rows)).collect()}
    facts = {key: (row["target"], row["reward"], row["labels"], row["contradicting"]) for key, row in decisions.items()}
    assert facts == {
        ("accepted", None): (None, 1.0, ["lake"], False),
        ("explicit ones first", None): (None, -1.0, ["lake"], False),
        ("contradicting", None): (None, None, None, True),
        ("other labels since", None): (None, 0.5, ["lake", "spam"], False),
        ("late", None): (None, None, None, False),
        ("a label's own", None): (None, 0.5, ["lake"], False),
        ("a label's own", "lake"): (0, -1.0, None, False),
    }


ALIKE = ("doc_id", "label", "content_hash", "target", "reward", "chosen", "contradicting", "signals", "late")
HOURS = st.integers(0, 3).map(at)
# As `ingest` leaves them: the decision is known, or the signal is late.
SIGNALS = st.builds(
    lambda doc_id, label, verdict, reward, source, when, content, action, labels: signal(
        doc_id,
        verdict,
        label=label,
        reward=None if action is None and verdict in ("accepted", "rejected") else reward,
        source=source,
        observed_at=when,
        content_hash=content,
        chosen=action if label is not None or action is None else True,
        labels=labels if label is None and action is not None else None,
        propensity=0.25 if label is not None and action is not None else None,
    ),
    st.sampled_from(["1", "2", "3"]),
    st.sampled_from([None, "lake", "it's late", "gone"]),
    st.sampled_from(["accepted", "rejected", "corrected", "rated", "clicked", "dwelled"]),
    st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]),
    st.sampled_from(["ann", "bob", "eve"]),
    HOURS,
    st.sampled_from(["c", "d"]),
    st.sampled_from([True, False, None]),
    st.sampled_from([[], ["lake"], ["it's late", "lake"], ["gone"]]),
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RetrainConfig:
    folder = tmp_path_factory.mktemp("signals")
    pipeline = {
        "name": "mail",
        "source": {"path": "mail", "id": "id", "text": "body"},
        "label_set": ["lake", "it's late"],
        "model": "models:/mail@champion",
        "tables": "lake",
    }
    (folder / "mail.yaml").write_text(yaml.safe_dump(pipeline))
    (folder / "retrain.yaml").write_text(yaml.safe_dump({"pipeline": "mail.yaml", "golden": "golden", "work": "work"}))
    write_deltalake(str(folder / "lake" / "runs"), pa.table({"pipeline": ["mail"], "label_set_hash": ["h"]}))
    return RetrainConfig.from_yaml(folder / "retrain.yaml")


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(signals=st.lists(SIGNALS, min_size=40, max_size=80), resolve=st.sampled_from(["newest", "majority"]))
def test_check_and_training_count_the_same_evidence(
    spark: SparkSession, config: RetrainConfig, signals: list[dict[str, Any]], resolve: Resolve
) -> None:
    path = str(Path(str(config.pipeline.tables)) / "feedback")
    unique = {
        tuple(str(row[name]) for name in ("doc_id", "label", "verdict", "source", "observed_at")): row
        for row in signals
    }
    rows = [*unique.values()]
    arrow = pa.Table.from_pylist(rows, to_arrow_schema(FEEDBACK, timezone="UTC"))
    write_deltalake(path, arrow, mode="overwrite")

    by_spark = [row.asDict() for row in join_signals(table(spark, rows), resolve).collect()]
    without = query(delta_table(path), join_statement("t", resolve))
    assert Counter(tuple(row[name] for name in ALIKE) for row in by_spark) == Counter(
        tuple(row[name] for name in ALIKE) for row in without
    )

    evidence = count_evidence(
        config.model_copy(update={"feedback": config.feedback.model_copy(update={"resolve": resolve})})
    )
    names = set(config.pipeline.label_set.names)
    left = [row for row in rows if (set(row["labels"] or ()) if row["label"] is None else {row["label"]}) <= names]
    decisions = [row.asDict() for row in join_signals(table(spark, left), resolve).collect()]
    assert comparable(evidence) == expected(decisions)


def comparable(evidence: FeedbackEvidence) -> dict[str, int]:
    return {name: getattr(evidence, name) for name in expected([])}


def expected(decisions: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Return what the training makes of joined decisions."""
    of_labels = [row for row in decisions if row["label"] is not None]
    judged = [row for row in of_labels if row["target"] is not None]
    rewarded = [row for row in of_labels if row["reward"] is not None and row["chosen"] is not None]
    documents = [
        row for row in decisions if row["label"] is None and row["reward"] is not None and row["chosen"] is not None
    ]
    usable = {(row["doc_id"], row["label"], row["content_hash"]) for row in (*judged, *rewarded, *documents)}
    teaching = (
        *judged,
        *(row for row in rewarded if row["reward"] != 0),
        *(row for row in documents if row["reward"] > 0),
    )
    return {
        "decisions": len(decisions),
        "judged": len(judged),
        "right_labels": sum(row["target"] == 1 for row in judged),
        "wrong_labels": sum(row["target"] == 0 for row in judged),
        "rewarded": len(rewarded),
        "rewarded_documents": len(documents),
        "accepted_documents": sum(row["reward"] > 0 for row in documents),
        "usable": len(usable),
        "judged_documents": len({row["doc_id"] for row in teaching}),
        "contradicting": sum(row["contradicting"] for row in decisions),
    }
