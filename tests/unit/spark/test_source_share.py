"""How many decisions one source of feedback may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliclass_spark.spark.jobs.feedback.snapshot import largest_count


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([100, 10, 10], 0.5, 20),
        ([5, 5, 5], 0.4, 5),
        ([100, 1, 1, 1, 1], 0.25, 1),
        ([100], 0.5, None),
        ([9, 1], 0.4, None),
    ],
)
def test_no_source_has_more_than_its_share(counts: list[int], share: float, expected: int | None) -> None:
    assert largest_count(counts, share) == expected


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.floats(0.05, 1.0))
def test_the_limit_is_the_largest_that_keeps_the_share(counts: list[int], share: float) -> None:
    def is_kept(limit: int) -> bool:
        left = [min(count, limit) for count in counts]
        return limit <= share * sum(left)

    limit = largest_count(counts, share)
    if len(counts) * share < 1:
        assert limit is None
    elif limit is not None:
        assert is_kept(limit)
        assert limit == max(counts) or not is_kept(limit + 1)
