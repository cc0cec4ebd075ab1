"""Whether there is enough feedback for a training, or for a check of the champion: without Spark and without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from gliclass_spark import atomic_files
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.runs.delta_reader import StorageOptions
from gliclass_spark.runs.freshness import last_success
from gliclass_spark.runs.history import recent_manifests
from gliclass_spark.runs.signal_counts import count_decisions, count_signals, decisions_checked, signals_trained_on

_FILE = "check_feedback.json"
_MORE = " (min_decisions); bring more feedback (gliclass-spark feedback), or lower min_decisions"


@dataclass(frozen=True)
class FeedbackCheck:
    """The outcome of the step check_feedback, the contents of check_feedback.json.

    trains: whether the retraining trains a candidate. If not, it has only checked the champion. message: the counts
    that decide, and what is missing, in one line.
    """

    trains: bool
    message: str


def check_feedback(config: RetrainConfig, run_id: str) -> FeedbackCheck:
    """Return whether the snapshot of a retraining holds enough to train on, and record it in the retraining's folder.

    Enough are `min_decisions` signals, of them `min_new_signals` that no finished retraining has had, and
    `min_decisions` decisions that are judged or rewarded and not held out. A retraining that was found to have enough
    keeps that outcome: it may have trained meanwhile.
    """
    folder = config.run_folder(run_id)
    recorded = recorded_feedback_check(folder)
    if recorded is not None and recorded.trains:
        return recorded
    snapshot = json.loads((folder / "snapshot" / "snapshot.json").read_text(encoding="utf-8"))
    missing = missing_signals(config, snapshot["counts"]["signals"])
    decisions = usable_decisions(folder / "snapshot")
    counts = _counts(config, decisions, "decisions with a verdict or reward")
    if missing is None and decisions < config.min_decisions:
        missing = f"{counts}{_MORE}"
    check = FeedbackCheck(missing is None, counts if missing is None else missing)
    atomic_files.write_text(folder / _FILE, json.dumps(asdict(check), indent=2) + "\n")
    return check


def recorded_feedback_check(folder: Path) -> FeedbackCheck | None:
    """Return the outcome of check_feedback in a retraining's folder, None if it was not done."""
    path = folder / _FILE
    if not path.is_file():
        return None
    outcome: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return FeedbackCheck(**outcome)


def missing_signals(config: RetrainConfig, signals: int) -> str | None:
    """Return how many signals a training needs, and how many there are; None if they are enough."""
    if signals < config.min_decisions:
        return f"{_counts(config, signals, 'signals')}{_MORE}"
    new = signals - signals_trained_on(config)
    if new < config.min_new_signals:
        return (
            f"{new} of the {signals} signals are new since the last retraining, {config.min_new_signals} are needed "
            "(min_new_signals)"
        )
    return None


def has_work(config: RetrainConfig, run_id: str, storage_options: StorageOptions = None) -> tuple[bool, str]:
    """Return whether a retraining is worth a snapshot, and the counts that decide, in one line.

    It is if there is enough feedback to train on, or to check the champion by, or if it has begun to train.
    """
    recorded = recorded_feedback_check(config.run_folder(run_id))
    if recorded is not None and recorded.trains:
        return True, recorded.message
    signals = count_signals(config.pipeline, storage_options)
    missing = missing_signals(config, signals)
    if missing is None:
        return True, f"{signals} signals of pipeline {config.pipeline.name}"
    is_due, new = _champion_check_is_due(config, storage_options)
    return is_due, f"{missing}; {new} decisions of the champion have new feedback" if is_due else missing


def usable_decisions(snapshot: Path) -> int:
    """Return how many decisions of a snapshot can be trained on: judged or rewarded, and not held out."""
    columns = ["target", "reward", "chosen", "held_out"]
    rows = pq.read_table(snapshot / "feedback.parquet", columns=columns)
    judged, rewarded, chosen = (pc.is_valid(rows[name]) for name in ("target", "reward", "chosen"))
    usable = pc.and_(pc.invert(rows["held_out"]), pc.or_(judged, pc.and_(rewarded, chosen)))
    count = pc.sum(usable).as_py() or 0
    documents = snapshot / "documents.parquet"
    if documents.exists():
        held_out = pq.read_table(documents, columns=["held_out"])["held_out"]
        count += pc.sum(pc.invert(held_out)).as_py() or 0
    return int(count)


def _counts(config: RetrainConfig, count: int, what: str) -> str:
    return f"{count} {what} of pipeline {config.pipeline.name}, {config.min_decisions} are needed"


def _champion_check_is_due(config: RetrainConfig, storage_options: StorageOptions) -> tuple[bool, int]:
    """Return whether the model that tagged last has feedback enough for a check, and how many decisions are new."""
    tagged = last_success(recent_manifests(config.pipeline, storage_options), "tag")
    if tagged is None or tagged.model_digest is None:
        return False, 0
    counts = count_decisions(config.pipeline, tagged.model_digest, storage_options)
    new = counts.decisions + counts.documents - decisions_checked(config, tagged.model_digest)
    needed = config.rollback.min_effective_decisions
    return counts.may_suffice(needed) and new >= needed, new
