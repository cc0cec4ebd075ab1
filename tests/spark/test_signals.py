"""Several signals on one decision are joined to one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pyspark.sql import SparkSession

from gliclass_spark.spark.delta.local_rows import local_rows
from gliclass_spark.spark.delta.schema import FEEDBACK
from gliclass_spark.spark.transforms.signals import join_signals

ZERO = datetime(2026, 3, 1, tzinfo=UTC)

# Signals on a decision (verdict, hour, reward, chosen), and the expected target, reward and contradiction.
JOINED: dict[str, tuple[list[tuple[str, int, float | None, bool | None]], tuple[int | None, float | None, bool]]] = {
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


def test_several_signals_on_one_decision_are_joined_by_the_rules(spark: SparkSession) -> None:
    rows = [
        {
            "doc_id": name,
            "label_set_hash": "h",
            "label": "lake",
            "verdict": verdict,
            "reward": reward,
            "source": str(index),
            "observed_at": ZERO + timedelta(hours=hour),
            "content_hash": "c",
            "chosen": chosen,
        }
        for name, (signals, _) in JOINED.items()
        for index, (verdict, hour, reward, chosen) in enumerate(signals)
    ]
    complete = [{name: row.get(name) for name in FEEDBACK.names} for row in rows]
    decisions = {row["doc_id"]: row for row in join_signals(local_rows(spark, complete, FEEDBACK)).collect()}
    assert {name: (row["target"], row["reward"], row["contradicting"]) for name, row in decisions.items()} == {
        name: expected for name, (_, expected) in JOINED.items()
    }
    assert {name: row["signals"] for name, row in decisions.items()} == {
        name: len(signals) for name, (signals, _) in JOINED.items()
    }
    assert decisions["the latest wins"]["observed_at"].astimezone(UTC) == ZERO + timedelta(hours=1)
    assert {name for name, row in decisions.items() if row["late"]} == {"a late correction"}
