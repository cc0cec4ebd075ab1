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
from scipy.special import logit, ndtr
from scipy.stats import binom
from written_runs import START, manifest, write_runs

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.due.drift_martingale import wealth
from gliclass_spark.runs.due.missing_labels import lost_labels
from gliclass_spark.runs.due.rejected_labels import ReviewedDocument, rejection_rise
from gliclass_spark.runs.due.retraining_due import (
    DRIFT,
    LOST_LABELS,
    REJECTIONS,
    judge_runs,
    retraining_due,
    runs_since_promotion,
)
from gliclass_spark.runs.due.score_drift import Counts, drift_shown_at, score_drift, stability_index
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


def scores_of(nights: int, rng: np.random.Generator, shift: float = 0.0, since: int = 0) -> Counts:
    """Histograms of a night each, (nights, labels, bins); the first label's scores move by `shift` from a night on."""
    centres = rng.normal(-2.0, 0.3, (nights, len(LABELS)))
    centres[since:, 0] += shift
    edges = np.concatenate([[-np.inf], logit(np.arange(1, 10) / 10), [np.inf]])
    shares = np.diff(ndtr(edges - centres[..., np.newaxis]), axis=-1)
    return rng.multinomial(rng.integers(20, 801, (nights, 1)), shares).astype(np.float64)


def looks(reviewed: int) -> list[int]:
    """The numbers of reviewed documents at which a rise in rejections may be shown."""
    numbers = [60]
    while numbers[-1] * 5 // 4 <= reviewed:
        numbers.append(numbers[-1] * 5 // 4)
    return numbers


def test_a_pipeline_in_which_nothing_changes_is_due_on_no_night_of_a_year_in_19_of_20_cases() -> None:
    due, nights, each_night = 0, 365, 4
    for seed in range(HISTORIES):
        rng = np.random.default_rng(seed)
        has_drift = drift_shown_at(scores_of(nights, rng), DRIFT) is not None
        reviewed = reviews(rng, nights * each_night)
        rises = (rejection_rise(reviewed[:number], REJECTIONS) for number in looks(len(reviewed)))
        has_rise = any(rise is not None and rise.excess > 0 for rise in rises)
        # A label of one in 200 documents, of which 2,000 were tagged before.
        before, after = rng.binomial(20, 1 / 200, 100), rng.binomial(20, 1 / 200, nights)
        run = replace(counted(1, {}, documents=20), score_histograms={"parcel": [20]})
        earlier = [replace(run, label_counts={"parcel": int(before.sum())}, tagged=2000)]
        since = [replace(run, label_counts={"parcel": int(count)}) for count in after[: np.argmax(after > 0)]]
        has_lost = bool(lost_labels(since, earlier, LOST_LABELS)) if since else False
        due += has_drift or has_rise or has_lost
    # With 5%, more than this are due in one of 1,000 such tests.
    assert due <= binom.ppf(0.999, HISTORIES, 0.05), due


@pytest.mark.parametrize(("since", "shift", "detected"), [(14, 1.0, 0.8), (60, 0.6, 0.6), (180, 0.6, 0.8)])
def test_drift_of_one_label_is_detected_within_a_month(since: int, shift: float, detected: float) -> None:
    """Of two and three times the standard deviation between runs: detected in at least this share of the cases."""
    cases = 25
    nights = [
        drift_shown_at(scores_of(since + 30, np.random.default_rng(seed), shift, since), DRIFT) for seed in range(cases)
    ]
    assert sum(night is not None and night > since for night in nights) >= binom.ppf(0.001, cases, detected)


def test_the_wealth_of_a_martingale_stays_one_on_average_and_its_bets_win_what_they_say() -> None:
    rng = np.random.default_rng(0)
    assert wealth(rng.random((12, 20_000)))[-1].mean() == pytest.approx(1.0, abs=0.05)
    rising = wealth(np.arange(9.0)[:, np.newaxis])
    assert (rising[:7] == 1.0).all()
    exponents = np.array([0.3, 0.6, 1.0])
    assert rising[7, 0] == pytest.approx((8 ** (1 - exponents)).mean())
    assert rising[8, 0] > rising[7, 0] > 1 > rising[7, 1] > rising[8, 1]


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
    drift = score_drift([*steady, *only_spam], 0.03)
    assert drift is not None
    assert (list(drift.indices), drift.since, drift.runs) == (["spam"], 14, 7)
    [reason] = judge_runs([*steady, *only_spam], [], []).reasons
    assert reason.startswith("the scores of spam (PSI ")
    assert "the first and the last 7 runs of this model; after 14 of its runs" in reason
    # It stays one until the scores have come back, or a promotion.
    later = [*steady, *only_spam, *only_spam[:3]]
    assert len(judge_runs(later, [], []).reasons) == 1
    assert judge_runs([*later, *steady, *steady], [], []).reasons == ()
    assert score_drift([*steady, *moved][:13], 0.03) is None


def test_the_index_of_two_histograms_is_that_of_the_formula() -> None:
    # (10.5, 30.5) of 41 and (20.5, 20.5) of 41
    p, q = np.array([20.5, 20.5]) / 41, np.array([10.5, 30.5]) / 41
    expected = float(((p - q) * np.log(p / q)).sum())
    assert stability_index(np.array([10.0, 30.0]), np.array([20.0, 20.0])) == pytest.approx(expected)


def test_rejections_that_rise_beyond_their_interval_are_a_reason() -> None:
    rng = np.random.default_rng(0)
    rise = rejection_rise([*reviews(rng, 200, 0.1), *reviews(rng, 200, 0.4)], 0.02)
    assert rise is not None
    # The last look is at 352 documents: of the later 176, 24 have the first share.
    assert (rise.documents, rise.recent) == (352, 176)
    assert (rise.before, rise.now) == pytest.approx((0.1, 0.1 + 0.3 * 152 / 176), abs=0.05)
    assert rise.excess > 0
    late = rejection_rise([*reviews(rng, 270, 0.1), *reviews(rng, 90, 0.4)], 0.02)
    assert late is not None
    assert (late.documents, late.recent) == (352, 88)
    assert late.excess > 0
    fall = rejection_rise([*reviews(rng, 200, 0.4), *reviews(rng, 200, 0.1)], 0.02)
    assert fall is not None
    assert fall.excess < 0
    assert rejection_rise(reviews(rng, 59), 0.02) is None


def test_rejections_are_looked_at_when_their_number_has_grown_by_a_quarter() -> None:
    rng = np.random.default_rng(0)
    reviewed = reviews(rng, 200)
    compared = []
    for number in (60, 74, 75, 92, 93, 115):
        rise = rejection_rise(reviewed[:number], 0.02)
        assert rise is not None
        compared.append(rise.documents)
    assert compared == [60, 60, 75, 75, 93, 93]


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
    assert reason.startswith("reviewers reject more of the given labels: 10% in the first 58 reviewed")
    assert due.notes[0] == "drift can be judged after 14 runs with documents, there are 2"
    assert (due.model_digest, due.runs, due.documents) == ("b" * 64, 2, 200)
    assert due.since == START + timedelta(days=1)


def test_without_feedback_it_is_said_what_cannot_be_told(write: Write) -> None:
    pipeline = write([])
    due = retraining_due(pipeline)
    assert due is not None
    assert not due.due
    assert "there are 0" in due.notes[1]
    assert retraining_due(pipeline.model_copy(update={"model": "embedded"})) is None
