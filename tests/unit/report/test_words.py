"""Numbers in words."""

from __future__ import annotations

import pytest

from gliclass_spark.report import words


@pytest.mark.parametrize(
    ("part", "whole", "said"),
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
def test_a_share_says_none_and_all_of_none_and_all_alone(part: int, whole: int, said: str) -> None:
    assert words.share(part, whole) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_are_in_the_units_that_people_use(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(("per_second", "said"), [(0.524, "0.52"), (9.96, "10.0"), (99.6, "100"), (12_345.6, "12,346")])
def test_speeds_keep_three_digits(per_second: float, said: str) -> None:
    assert words.rate(per_second) == said


def test_many_names_are_counted() -> None:
    assert words.several(["a"]) == "a"
    assert words.several(["a", "b", "c"]) == "a, b and c"
    assert words.several(list("abcdefgh")) == "a, b, c, d, e and 3 more"
