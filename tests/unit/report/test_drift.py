"""Drift: the PSI checked by hand, and the levels at which it is reported."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_runs import LABELS, tag

from gliclass_spark.labels import LabelSet
from gliclass_spark.report.run.drift import (
    LARGE_PSI,
    MODERATE_PSI,
    Level,
    critical_value,
    drift_level,
    measure_drift,
    psi,
)

COUNTS = st.lists(st.integers(0, 10**9), min_size=2, max_size=20)


def test_the_psi_of_two_bins_is_as_computed_by_hand() -> None:
    # With 0.5 added to each bin: shares of 0.3 and 0.7 became 0.7 and 0.3.
    assert psi([1, 3], [3, 1]) == pytest.approx(2 * 0.4 * log(0.7 / 0.3))


def test_the_psi_of_four_bins_with_an_empty_one_is_as_computed_by_hand() -> None:
    # With 0.5 added to each bin: 1.5, 1.5, 2.5 and 4.5 of 10 became 0.5, 2.5, 2.5 and 4.5 of 10.
    assert psi([1, 1, 2, 4], [0, 2, 2, 4]) == pytest.approx(-0.1 * log(0.5 / 1.5) + 0.1 * log(2.5 / 1.5))
    assert psi([1, 1, 2, 4], [0, 2, 2, 4]) == pytest.approx(0.1609438)


@given(COUNTS)
def test_the_psi_of_equal_counts_is_zero(counts: list[int]) -> None:
    assert psi(counts, counts) == 0


@given(st.integers(2, 20).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 10**9), min_size=n, max_size=n)] * 2)))
def test_the_psi_is_symmetric_and_never_negative(pair: tuple[list[int], list[int]]) -> None:
    expected, actual = pair
    assert psi(expected, actual) >= 0
    assert psi(expected, actual) == pytest.approx(psi(actual, expected))


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0.0999, Level.STEADY),
        (MODERATE_PSI, Level.MODERATE),
        (0.2499, Level.MODERATE),
        (LARGE_PSI, Level.LARGE),
        (3.0, Level.LARGE),
    ],
)
def test_levels_start_at_the_customary_values(index: float, expected: Level) -> None:
    assert drift_level(index, critical=0.01) == expected


def test_an_index_below_its_critical_value_is_no_drift() -> None:
    assert drift_level(0.3, critical=0.31) == Level.UNKNOWN
    assert drift_level(0.05, critical=0.31) == Level.STEADY


@pytest.mark.parametrize(("bins", "quantile"), [(2, 10.828), (10, 27.877)])
def test_the_critical_value_follows_the_chi_squared_quantile(bins: int, quantile: float) -> None:
    assert critical_value(200, 100, bins) == pytest.approx((1 / 200 + 1 / 100) * quantile, rel=0.04)


def test_samples_of_one_population_are_hardly_ever_reported_as_drift() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1.0] * 10)
    for actual in (100, 300, 3000):
        samples = [(rng.multinomial(7 * actual, shares), rng.multinomial(actual, shares)) for _ in range(500)]
        critical = critical_value(7 * actual, actual, 10)
        levels = [drift_level(psi(before.tolist(), now.tolist()), critical) for before, now in samples]
        assert sum(level > Level.UNKNOWN for level in levels) <= 3


def test_a_label_that_doubled_is_reported_with_its_shares_before_and_now() -> None:
    history = [tag(day, {"complaint": 300, "invoice": 50}) for day in range(7)]
    drift = measure_drift(tag(8, {"complaint": 600, "invoice": 50}), history)
    complaint, invoice = drift.labels
    assert (complaint.label, complaint.level) == ("complaint", Level.LARGE)
    assert (complaint.documents, complaint.share, complaint.reference_share) == (600, 0.6, 0.3)
    assert complaint.share_psi == pytest.approx(0.3 * log(0.6 / 0.3) + 0.3 * log(0.7 / 0.4), rel=1e-2)
    assert complaint.shares == [0.3] * 7
    assert (invoice.label, invoice.level) == ("invoice", Level.STEADY)
    assert (drift.documents, drift.reference_documents, drift.not_compared) == (1000, 7000, None)


def test_scores_that_moved_below_the_threshold_are_drift_though_the_share_is_the_same() -> None:
    history = [tag(day, {"complaint": 300}) for day in range(7)]
    now = tag(8, {"complaint": 300})
    shifted = now.score_histograms["complaint"][:]
    shifted[2], shifted[8] = 0, shifted[2]
    label = measure_drift(replace(now, score_histograms={"complaint": shifted}), history).labels[0]
    assert label.share_psi == pytest.approx(0, abs=1e-4)
    assert label.level == Level.LARGE


def test_a_label_without_documents_is_still_compared() -> None:
    label = measure_drift(tag(8, {"complaint": 0}), [tag(0, {"complaint": 300})]).labels[0]
    assert (label.documents, label.reference_share, label.level) == (0, 0.3, Level.LARGE)


def test_only_the_last_seven_runs_are_compared_with() -> None:
    history = [tag(day, {"complaint": 900}) for day in range(3)]
    history += [tag(day, {"complaint": 300}) for day in range(3, 10)]
    drift = measure_drift(tag(10, {"complaint": 300}), history)
    assert [manifest.run_id for manifest in drift.reference] == [f"run-{day}" for day in range(3, 10)]
    assert drift.labels[0].reference_share == 0.3


def test_runs_of_other_labels_failed_runs_and_the_run_itself_are_not_compared_with() -> None:
    now = tag(8, {"complaint": 300})
    other = tag(1, {"complaint": 900}, label_set=LabelSet.of("complaint"))
    assert other.label_set_hash != LABELS.hash
    history = [other, replace(tag(2, {"complaint": 900}), status="failed"), replace(now, label_counts={})]
    drift = measure_drift(now, history)
    assert drift.reference == []
    assert drift.not_compared == "No earlier run used this label set, so there is nothing to compare with yet."
    assert [label.level for label in drift.labels] == [Level.UNKNOWN]


@pytest.mark.parametrize(
    ("documents", "before", "reason"),
    [
        (0, 1000, "This run scored no document"),
        (99, 1000, "Too few documents to compare: 99 were scored"),
        (1000, 99, "Too few documents to compare with: the runs before scored 99"),
    ],
)
def test_few_documents_are_not_compared(documents: int, before: int, reason: str) -> None:
    drift = measure_drift(tag(8, {"complaint": 0}, documents), [tag(0, {"complaint": 9}, before)])
    assert drift.not_compared is not None
    assert drift.not_compared.startswith(reason)
    assert all(label.share_psi is None for label in drift.labels)


def test_documents_without_scores_do_not_count_in_a_share() -> None:
    drift = measure_drift(tag(8, {"complaint": 300}, errors={"null_text": 400}), [])
    assert (drift.documents, drift.labels[0].share) == (600, 0.5)


def test_another_model_in_the_reference_is_reported() -> None:
    history = [replace(tag(0, {"complaint": 300}), model_digest="e" * 64)]
    assert measure_drift(tag(1, {"complaint": 300}), history).other_model
    assert not measure_drift(tag(1, {"complaint": 300}), [tag(0, {"complaint": 300})]).other_model
