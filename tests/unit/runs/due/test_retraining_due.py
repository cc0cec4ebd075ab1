"""Whether a retraining is due: each reason, and how often there is one where nothing has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from written_runs import START, manifest, write_runs

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.due.missing_labels import lost_labels
from gliclass_spark.runs.due.rejected_labels import ReviewedDocument, rejection_rise
from gliclass_spark.runs.due.retraining_due import judge_runs, retraining_due, runs_since_promotion
from gliclass_spark.runs.due.score_drift import score_drift, stability_index
from gliclass_spark.runs.manifest import HISTOGRAM_BINS, Manifest

LABELS = ("spam", "invoice", "parcel")
HISTORIES = 120


def tag_run(number: int, rng: np.random.Generator, documents: int = 500, mean: float = 0.0) -> Manifest:
    """A tag job whose scores have a centre of its own: runs differ by more than sampling their documents."""
    centres = rng.normal(mean, 0.3, len(LABELS))
    scores = 1 / (1 + np.exp(-rng.normal(centres - 2.0, 1.0, (documents, len(LABELS)))))
    return replace(
        manifest("tag", f"run-{number}", model_digest="b" * 64, tagged=documents),
        score_histograms={
            label: np.histogram(scores[:, column], HISTOGRAM_BINS, (0.0, 1.0))[0].tolist()
            for column, label in enumerate(LABELS)
        },
        label_counts={label: int((scores[:, column] >= 0.5).sum()) for column, label in enumerate(LABELS)},
    )


def reviews(rng: np.random.Generator, count: int, rejected: float = 0.2, spread: float = 0.1) -> list[ReviewedDocument]:
    """Documents with one to three reviewed labels, of which some documents' are rejected more often than others'."""
    sizes = rng.integers(1, 4, count)
    rates = rng.beta(rejected / spread, (1 - rejected) / spread, count)
    return [ReviewedDocument(int(rng.binomial(size, rate)), int(size)) for size, rate in zip(sizes, rates, strict=True)]


def test_a_pipeline_in_which_nothing_changes_is_rarely_due() -> None:
    due = 0
    for seed in range(HISTORIES):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(20, 800, 30)
        runs = [tag_run(number, rng, int(size)) for number, size in enumerate(sizes[: rng.integers(20, 30)])]
        due += judge_runs(runs[10:], runs[:10], reviews(rng, int(rng.integers(60, 400)))).due
    assert due <= 0.05 * HISTORIES, due


def test_drift_beyond_that_of_the_runs_is_a_reason_that_names_the_labels() -> None:
    rng = np.random.default_rng(0)
    steady = [tag_run(number, rng) for number in range(7)]
    moved = [tag_run(7 + number, rng, mean=1.5) for number in range(7)]
    only_spam = [
        replace(
            run,
            score_histograms={**steady[0].score_histograms, "spam": run.score_histograms["spam"]},
            label_counts=steady[0].label_counts,
        )
        for run in moved
    ]
    drift = score_drift([*steady, *only_spam], 0.02)
    assert drift is not None
    assert list(drift.indices) == ["spam"]
    assert drift.p_value <= 1 / 1716 + 1e-9
    [reason] = judge_runs([*steady, *only_spam], [], []).reasons
    assert reason.startswith("the scores of spam (PSI ")
    assert score_drift([*steady, *moved][:9], 0.02) is None


def test_the_index_of_two_histograms_is_that_of_the_formula() -> None:
    # (10.5, 30.5) of 41 and (20.5, 20.5) of 41
    p, q = np.array([20.5, 20.5]) / 41, np.array([10.5, 30.5]) / 41
    expected = float(((p - q) * np.log(p / q)).sum())
    assert stability_index(np.array([10.0, 30.0]), np.array([20.0, 20.0])) == pytest.approx(expected)


def test_rejections_that_rise_beyond_their_interval_are_a_reason() -> None:
    rng = np.random.default_rng(0)
    rise = rejection_rise([*reviews(rng, 200, 0.1), *reviews(rng, 200, 0.4)], 0.02)
    assert rise is not None
    assert (rise.before, rise.now) == pytest.approx((0.1, 0.4), abs=0.05)
    assert rise.excess > 0.1
    fall = rejection_rise([*reviews(rng, 200, 0.4), *reviews(rng, 200, 0.1)], 0.02)
    assert fall is not None
    assert fall.excess < 0
    assert rejection_rise(reviews(rng, 59), 0.02) is None


def counted(number: int, counts: dict[str, int], documents: int = 100, digest: str = "b" * 64) -> Manifest:
    histograms = {label: [documents, *[0] * (HISTOGRAM_BINS - 1)] for label in LABELS}
    run = manifest("tag", f"run-{number}", model_digest=digest, tagged=documents)
    return replace(run, label_counts=counts, score_histograms=histograms)


@pytest.mark.parametrize(("before", "lost"), [(20, ["parcel"]), (3, []), (0, [])])
def test_a_label_is_lost_if_chance_does_not_explain_that_no_document_has_it(before: int, lost: list[str]) -> None:
    earlier = [counted(1, {"spam": 50, "invoice": 20, "parcel": before})]
    runs = [counted(2, {"spam": 50, "invoice": 20})]
    assert lost_labels(runs, earlier, 0.01) == lost
    due = judge_runs(runs, earlier, [])
    assert due.due == bool(lost)
    assert any("no document was given parcel" in line for line in (due.reasons if lost else due.notes))


def test_the_runs_since_the_promotion_are_those_of_the_model_that_tagged_last() -> None:
    digests = ["a", "b", "a", "a", "c", "c"]
    rows = [counted(number, {}, digest=digest * 64) for number, digest in enumerate(digests)]
    failed = replace(rows[-1], sequence=6, status="failed", model_digest="d" * 64)
    empty = replace(rows[-1], sequence=7, tagged=0)
    other = replace(rows[-1], sequence=8, label_set_hash="0" * 64)
    runs, earlier = runs_since_promotion([*rows[::-1], failed, empty, other], rows[0].label_set_hash)
    assert [row.sequence for row in runs] == [4, 5]
    assert [row.sequence for row in earlier] == [2, 3]
    assert runs_since_promotion([], "h") == ([], [])


Write = Callable[[Sequence[bool]], Pipeline]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes two runs, and reviews in this order: True for a rejected label."""

    def of(rejected: Sequence[bool]) -> Pipeline:
        source = {"path": str(tmp_path / "mail"), "id": "id", "text": "body"}
        document = {"name": "mail", "source": source, "label_set": ["spam"], "tables": str(tmp_path / "lake")}
        pipeline = Pipeline.model_validate({**document, "model": "models:/mail@champion"})
        rows = [counted(number, {"spam": 3}) for number in (1, 2)]
        write_runs(tmp_path, [replace(row, label_set_hash=pipeline.label_set.hash) for row in rows])
        signals = [
            {
                **{"doc_id": str(number), "label_set_hash": pipeline.label_set.hash, "label": "spam"},
                **{"verdict": "rejected" if is_rejected else "accepted", "chosen": True, "model_digest": "b" * 64},
                "observed_at": datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=number),
            }
            for number, is_rejected in enumerate(rejected)
        ]
        if signals:
            write_deltalake(str(tmp_path / "lake" / "feedback"), pa.Table.from_pylist(signals))
        return pipeline

    return of


def test_manifests_and_feedback_are_read_without_spark(write: Write) -> None:
    due = retraining_due(write([number % 10 == 0 or number > 80 for number in range(120)]))
    assert due is not None
    assert due.due
    [reason] = due.reasons
    assert reason.startswith("reviewers reject more of the given labels: 10% in the first half of 120 reviewed")
    assert due.notes[0] == "drift can be judged after 10 runs with documents, there are 2"
    assert (due.model_digest, due.runs, due.documents) == ("b" * 64, 2, 200)
    assert due.since == START + timedelta(days=1)


def test_without_feedback_it_is_said_what_cannot_be_told(write: Write) -> None:
    pipeline = write([])
    due = retraining_due(pipeline)
    assert due is not None
    assert not due.due
    assert "there are 0" in due.notes[1]
    assert retraining_due(pipeline.model_copy(update={"model": "embedded"})) is None
