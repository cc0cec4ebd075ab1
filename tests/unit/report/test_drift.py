"""Drift: the index by hand, and when it is a warning."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nights import LABELS, tag

from gliclass_spark.labels import LabelSet
from gliclass_spark.report.drift import LARGE_PSI, MODERATE_PSI, Level, chance, level, measure, psi

COUNTS = st.lists(st.integers(0, 10**9), min_size=2, max_size=20)


def test_the_index_of_two_bins_is_what_one_computes_by_hand() -> None:
    # With 0.5 added to each bin: shares of 0.3 and 0.7 became 0.7 and 0.3.
    assert psi([1, 3], [3, 1]) == pytest.approx(2 * 0.4 * log(0.7 / 0.3))


def test_the_index_of_four_bins_of_which_one_became_empty_is_what_one_computes_by_hand() -> None:
    # With 0.5 added to each bin: 1.5, 1.5, 2.5 and 4.5 of 10 became 0.5, 2.5, 2.5 and 4.5 of 10.
    assert psi([1, 1, 2, 4], [0, 2, 2, 4]) == pytest.approx(-0.1 * log(0.5 / 1.5) + 0.1 * log(2.5 / 1.5))
    assert psi([1, 1, 2, 4], [0, 2, 2, 4]) == pytest.approx(0.1609438)


@given(COUNTS)
def test_the_index_of_equal_counts_is_zero(counts: list[int]) -> None:
    assert psi(counts, counts) == 0


@given(st.integers(2, 20).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 10**9), min_size=n, max_size=n)] * 2)))
def test_the_index_is_never_negative_and_the_same_when_the_two_change_places(pair: tuple[list[int], list[int]]) -> None:
    one, other = pair
    assert psi(one, other) >= 0
    assert psi(one, other) == pytest.approx(psi(other, one))


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
def test_levels_begin_at_the_customary_values(index: float, expected: Level) -> None:
    assert level(index, by_chance=0.01) == expected


def test_an_index_that_chance_alone_makes_is_no_warning() -> None:
    assert level(0.3, by_chance=0.31) == Level.UNKNOWN
    assert level(0.05, by_chance=0.31) == Level.STEADY


@pytest.mark.parametrize(("bins", "quantile"), [(2, 10.828), (10, 27.877)])
def test_chance_follows_the_chi_squared_quantile(bins: int, quantile: float) -> None:
    assert chance(200, 100, bins) == pytest.approx((1 / 200 + 1 / 100) * quantile, rel=0.04)


def test_samples_of_one_population_are_hardly_ever_a_warning_whatever_their_size() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1.0] * 10)
    for actual in (100, 300, 3000):
        drawn = [(rng.multinomial(7 * actual, shares), rng.multinomial(actual, shares)) for _ in range(500)]
        found = [level(psi(one.tolist(), other.tolist()), chance(7 * actual, actual, 10)) for one, other in drawn]
        assert sum(each > Level.UNKNOWN for each in found) <= 3


def test_a_label_that_doubled_is_told_with_its_shares_before_and_now() -> None:
    history = [tag(night, {"complaint": 300, "invoice": 50}) for night in range(7)]
    found = measure(tag(8, {"complaint": 600, "invoice": 50}), history)
    complaint, invoice = found.labels
    assert (complaint.label, complaint.level) == ("complaint", Level.LARGE)
    assert (complaint.documents, complaint.share, complaint.reference_share) == (600, 0.6, 0.3)
    assert complaint.share_psi == pytest.approx(0.3 * log(0.6 / 0.3) + 0.3 * log(0.7 / 0.4), rel=1e-2)
    assert complaint.shares == [0.3] * 7
    assert (invoice.label, invoice.level) == ("invoice", Level.STEADY)
    assert (found.documents, found.reference_documents, found.unknown) == (1000, 7000, None)


def test_scores_that_moved_below_the_threshold_are_a_drift_though_the_share_stayed() -> None:
    history = [tag(night, {"complaint": 300}) for night in range(7)]
    now = tag(8, {"complaint": 300})
    shifted = now.score_histograms["complaint"][:]
    shifted[2], shifted[8] = 0, shifted[2]
    found = measure(replace(now, score_histograms={"complaint": shifted}), history).labels[0]
    assert found.share_psi == pytest.approx(0, abs=1e-4)
    assert found.level == Level.LARGE


def test_a_label_that_nobody_has_any_more_is_still_compared() -> None:
    found = measure(tag(8, {"complaint": 0}), [tag(0, {"complaint": 300})]).labels[0]
    assert (found.documents, found.reference_share, found.level) == (0, 0.3, Level.LARGE)


def test_only_the_last_seven_runs_are_compared_with() -> None:
    history = [tag(night, {"complaint": 900}) for night in range(3)]
    history += [tag(night, {"complaint": 300}) for night in range(3, 10)]
    found = measure(tag(10, {"complaint": 300}), history)
    assert [manifest.run_id for manifest in found.reference] == [f"night-{night}" for night in range(3, 10)]
    assert found.labels[0].reference_share == 0.3


def test_runs_of_other_labels_failed_runs_and_the_run_itself_are_not_compared_with() -> None:
    now = tag(8, {"complaint": 300})
    other = tag(1, {"complaint": 900}, label_set=LabelSet.of("complaint"))
    assert other.label_set_hash != LABELS.hash
    history = [other, replace(tag(2, {"complaint": 900}), status="failed"), replace(now, label_counts={})]
    found = measure(now, history)
    assert found.reference == []
    assert found.unknown == "No earlier run asked these labels, so there is nothing to compare with yet."
    assert [label.level for label in found.labels] == [Level.UNKNOWN]


@pytest.mark.parametrize(
    ("documents", "before", "said"),
    [
        (0, 1000, "This run scored no document"),
        (99, 1000, "Too few documents to tell: 99 were scored"),
        (1000, 99, "Too few documents to tell: the runs before scored 99"),
    ],
)
def test_few_documents_are_not_compared(documents: int, before: int, said: str) -> None:
    found = measure(tag(8, {"complaint": 0}, documents), [tag(0, {"complaint": 9}, before)])
    assert found.unknown is not None
    assert found.unknown.startswith(said)
    assert all(label.share_psi is None for label in found.labels)


def test_documents_that_could_not_be_scored_are_no_part_of_a_share() -> None:
    found = measure(tag(8, {"complaint": 300}, errors={"null_text": 400}), [])
    assert (found.documents, found.labels[0].share) == (600, 0.5)


def test_another_model_in_the_reference_is_told() -> None:
    history = [replace(tag(0, {"complaint": 300}), model_digest="e" * 64)]
    assert measure(tag(1, {"complaint": 300}), history).other_model
    assert not measure(tag(1, {"complaint": 300}), [tag(0, {"complaint": 300})]).other_model
