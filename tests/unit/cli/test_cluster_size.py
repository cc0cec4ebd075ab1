"""Cluster sizing: exact arithmetic."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gliclass_spark.cli.cluster_size import Executor, Sizing, Workload, sizing
from gliclass_spark.cli.output.plan_output import show_sizing
from gliclass_spark.errors import ConfigError


def test_a_billion_documents_need_six_executors_of_four_slots() -> None:
    # 1e9 / (2000 * 0.8) = 625,000 s of one slot = 173.6 h; in 8 hours 21.7 slots, so 6 executors of 4; they take 7.2 h.
    size = sizing(Workload(1_000_000_000, texts_per_s=2000, hours=8, spark_share=0.8), Executor(4, 12.0))
    assert size.executors == 6
    assert size.slot_hours == pytest.approx(625_000 / 3600)
    assert size.hours == pytest.approx(625_000 / 3600 / 24)
    assert size.cost == pytest.approx(625_000 / 3600 / 24 * 6 * 12)


def test_the_page_shows_the_arithmetic_that_the_command_prints() -> None:
    console = Console(width=200, file=StringIO())
    show_sizing(console, Workload(1_000_000_000, texts_per_s=2000, hours=8), Executor(4, 12.0))
    printed = [line.split("│")[1:-1] for line in console.file.getvalue().splitlines() if line.startswith("│")]
    page = (Path(__file__).parents[3] / "docs" / "deployment" / "index.md").read_text(encoding="utf-8")
    assert len(printed) == 5
    for cells in printed:
        assert f"| {' | '.join(cell.strip() for cell in cells)} |" in page


def test_a_small_workload_takes_one_executor() -> None:
    assert sizing(Workload(3600, texts_per_s=1, hours=8, spark_share=1), Executor(price_per_hour=2)) == Sizing(
        1, 1, 1, 2
    )


@given(st.integers(1, 10**12), st.floats(0.01, 1e6), st.floats(0.1, 1000), st.floats(0.05, 1), st.integers(1, 64))
def test_the_run_ends_in_time_and_would_not_with_one_executor_less(
    documents: int, texts_per_s: float, hours: float, share: float, slots: int
) -> None:
    size = sizing(Workload(documents, texts_per_s, hours, share), Executor(slots))
    assert size.hours <= hours * (1 + 1e-9)
    if size.executors > 1:
        assert size.slot_hours / ((size.executors - 1) * slots) > hours * (1 - 1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"documents": 0}, "documents must be more than 0, got 0"),
        ({"texts_per_s": -1.0}, "texts_per_s must be more than 0, got -1.0"),
        ({"hours": float("nan")}, "hours must be more than 0, got nan"),
        ({"spark_share": 1.5}, "spark_share must be more than 0 and at most 1, got 1.5"),
    ],
)
def test_an_impossible_workload_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Workload(**{"documents": 1, "texts_per_s": 1.0, "hours": 1.0, **arguments})


def test_an_executor_without_slots_or_with_a_negative_price_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 slot, got 0"):
        Executor(0)
    with pytest.raises(ConfigError, match="can't be less than 0, got -1"):
        Executor(1, -1)
