"""Checks of the feedback before a retraining: what is enough to train on, or to check the champion by."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk.exceptions import AirflowFailException
from deltalake import write_deltalake
from retraining_files import RUN, write_retraining
from retraining_tasks import feedback_of, write_check, write_snapshot
from written_runs import manifest, write_runs

from gliclass_spark.airflow.checks import retraining_checks
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.training.data.logged_decisions import read_decisions


def test_too_few_decisions_skip_the_training_which_counts_them_alike(
    retraining_file: Path, run_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        ("judged", "a", "spam", 1, None, None, None, None, False),
        ("rewarded", "b", "spam", None, -1.0, True, 0.5, 0.7, False),
        ("late click", "c", "spam", None, 1.0, None, None, None, False),
        ("held out", "d", "spam", 0, 1.0, False, 0.5, 0.2, True),
    ]
    label_set = Pipeline.from_yaml(retraining_file.parents[1] / "mail.yaml").label_set
    write_deltalake(str(retraining_file.parents[1] / "lake" / "feedback"), feedback_of([label_set.hash] * 3))
    write_check(run_folder)
    write_snapshot(run_folder, rows, label_set)
    with caplog.at_level("INFO"):
        assert not retraining_checks.can_train(str(retraining_file), RUN)
    assert "2 decisions with a verdict or reward of pipeline mail, 3 are needed (min_decisions); b" in caplog.text
    decisions = read_decisions(run_folder / "snapshot")
    learned = decisions.where(~decisions.held_out)
    assert int((learned.judged | learned.rewarded).sum()) == 2
    documents = run_folder / "snapshot" / "documents.parquet"
    pq.write_table(pa.table({"held_out": [True, False]}), documents)
    assert retraining_checks.can_train(str(retraining_file), RUN), "a document that was rewarded as a whole counts, too"
    documents.unlink()
    (run_folder / "check_feedback.json").unlink()
    write_snapshot(run_folder, [*rows, ("more", "e", "lake", None, 0.0, False, 0.5, 0.1, False)], label_set)
    assert retraining_checks.can_train(str(retraining_file), RUN)
    (run_folder / "check_feedback.json").unlink()
    write_snapshot(run_folder, rows[:0], label_set)
    assert not retraining_checks.can_train(str(retraining_file), RUN)


def test_signals_about_earlier_label_sets_count_for_labels_that_are_left(retraining_file: Path, tmp_path: Path) -> None:
    earlier, other = "1" * 64, "2" * 64
    runs = [manifest("tag", label_set_hash=earlier), manifest("tag", label_set_hash=other)]
    write_runs(tmp_path, [runs[0], replace(runs[1], pipeline="contracts")])
    feedback = str(tmp_path / "lake" / "feedback")
    write_deltalake(feedback, feedback_of([earlier, earlier, other, other]))
    write_deltalake(feedback, feedback_of([earlier, earlier], "a label of last year's"), mode="append")
    assert not retraining_checks.plan(str(retraining_file), RUN), "two signals; three are needed"
    write_deltalake(feedback, feedback_of([earlier]), mode="append")
    assert retraining_checks.plan(str(retraining_file), RUN)


def test_without_enough_signals_the_run_is_skipped(retraining_file: Path, tmp_path: Path) -> None:
    assert not retraining_checks.plan(str(retraining_file), RUN)
    current = Pipeline.from_yaml(tmp_path / "mail.yaml").label_set.hash
    write_deltalake(str(tmp_path / "lake" / "feedback"), feedback_of([current, current, "0" * 64]))
    assert not retraining_checks.plan(str(retraining_file), RUN)
    more = feedback_of([current])
    write_deltalake(str(tmp_path / "lake" / "feedback"), more, mode="append")
    assert retraining_checks.plan(str(retraining_file), RUN)
    retraining_file.write_text("pipeline: none.yaml\n")
    with pytest.raises(AirflowFailException, match=r"none.yaml does not exist"):
        retraining_checks.plan(str(retraining_file), RUN)


def test_without_new_signals_the_run_is_skipped(
    retraining_file: Path, run_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    label_set = Pipeline.from_yaml(tmp_path / "mail.yaml").label_set
    feedback = str(tmp_path / "lake" / "feedback")
    write_deltalake(feedback, feedback_of([label_set.hash] * 3))
    facts = {"label_set": json.loads(label_set.canonical_json), "counts": {"signals": 3}}
    (run_folder / "snapshot" / "snapshot.json").write_text(json.dumps(facts))
    assert retraining_checks.plan(str(retraining_file), RUN), "the last retraining is unfinished"
    (run_folder / "promote.json").write_text(json.dumps({"version": 7}))
    with caplog.at_level("INFO"):
        assert not retraining_checks.plan(str(retraining_file), RUN)
    assert "0 of the 3 signals are new since the last retraining, 1 are needed (min_new_signals)" in caplog.text
    write_deltalake(feedback, feedback_of([label_set.hash]), mode="append")
    assert retraining_checks.plan(str(retraining_file), RUN)
    write_retraining(tmp_path, min_new_signals=2)
    assert not retraining_checks.plan(str(retraining_file), RUN)
    # Feedback was deleted since a retraining that had more: the last one counts.
    earlier = run_folder.parent / "earlier"
    (earlier / "snapshot").mkdir(parents=True)
    (earlier / "promote.json").write_text("{}")
    old = {**facts, "counts": {"signals": 1000}, "created_at": "2026-01-01T00:00:00+00:00"}
    (earlier / "snapshot" / "snapshot.json").write_text(json.dumps(old))
    write_retraining(tmp_path, min_new_signals=1)
    (run_folder / "snapshot" / "snapshot.json").write_text(
        json.dumps({**facts, "created_at": "2026-02-01T00:00:00+00:00"})
    )
    assert retraining_checks.plan(str(retraining_file), RUN)
    write_retraining(tmp_path, min_new_signals=2)
    assert not retraining_checks.plan(str(retraining_file), RUN)
    (earlier / "promote.json").unlink()
    facts["label_set"]["name"] = "another"
    (run_folder / "snapshot" / "snapshot.json").write_text(json.dumps(facts))
    assert retraining_checks.plan(str(retraining_file), RUN), "the last retraining had another label set"


def decision(number: int, digest: str, label_set_hash: str) -> dict[str, Any]:
    return {
        **{"doc_id": str(number), "label": "spam", "content_hash": "c", "label_set_hash": label_set_hash},
        **{"chosen": number % 2 == 0, "propensity": 0.5, "model_digest": digest},
    }


def test_the_champion_is_checked_on_new_feedback_that_is_too_little_to_train_on(
    retraining_file: Path, tmp_path: Path
) -> None:
    write_retraining(tmp_path, min_decisions=1000)
    recorded = Pipeline.from_yaml(tmp_path / "mail.yaml")
    write_runs(tmp_path, [manifest("tag", label_set_hash=recorded.label_set.hash, model_digest="2" * 64)])
    rows = [decision(number, "2" * 64, recorded.label_set.hash) for number in range(29)]
    write_deltalake(str(tmp_path / "lake" / "feedback"), pa.Table.from_pylist(rows))
    assert not retraining_checks.plan(str(retraining_file), RUN), "29 decisions; 30 are needed"
    more = [decision(number, digest, recorded.label_set.hash) for number, digest in ((29, "2" * 64), (30, "1" * 64))]
    write_deltalake(str(tmp_path / "lake" / "feedback"), pa.Table.from_pylist(more), mode="append")
    assert retraining_checks.plan(str(retraining_file), RUN)
    earlier = RetrainConfig.from_yaml(retraining_file).run_folder("earlier")
    earlier.mkdir(parents=True)
    write_check(earlier, decisions=1)
    assert not retraining_checks.plan(str(retraining_file), RUN), "29 are new since the last check"
