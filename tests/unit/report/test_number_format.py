"""Number formats of the reports."""

from __future__ import annotations

import pytest

from gliclass_spark.report import number_format


@pytest.mark.parametrize(
    ("part", "total", "text"),
    [
        (0, 10, "0%"),
        (1, 1_000_000, "<0.1%"),
        (11, 1000, "1.1%"),
        (1, 10, "10%"),
        (995, 1000, "99.5%"),
        (999_999, 1_000_000, ">99.9%"),
        (10, 10, "100%"),
        (3, 0, "–"),
    ],
)
def test_only_none_and_all_are_0_and_100_percent(part: int, total: int, text: str) -> None:
    assert number_format.share(part, total) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_are_in_readable_units(seconds: float, text: str) -> None:
    assert number_format.duration(seconds) == text


@pytest.mark.parametrize(("per_second", "text"), [(0.524, "0.52"), (9.96, "10.0"), (99.6, "100"), (12_345.6, "12,346")])
def test_rates_keep_three_digits(per_second: float, text: str) -> None:
    assert number_format.rate(per_second) == text


def test_names_beyond_the_maximum_are_counted() -> None:
    assert number_format.enumeration(["a"]) == "a"
    assert number_format.enumeration(["a", "b", "c"]) == "a, b and c"
    assert number_format.enumeration(list("abcdefgh")) == "a, b, c, d, e and 3 more"
