"""From a measured speed to a cluster: exact arithmetic."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gliclass_spark.cli.cluster_size import Executor, Sizing, Workload, sizing
from gliclass_spark.cli.output.run_output import show_sizing
from gliclass_spark.errors import ConfigError


def test_a_billion_documents_on_paper() -> None:
    # 1e9 / (2000 * 0.8) = 625,000 s of one slot = 173.6 h; in 8 hours 21.7 slots, so 6 executors of 4; they take 7.2 h.
    found = sizing(Workload(1_000_000_000, texts_per_s=2000, hours=8, spark_share=0.8), Executor(4, 12.0))
    assert found.executors == 6
    assert found.slot_hours == pytest.approx(625_000 / 3600)
    assert found.hours == pytest.approx(625_000 / 3600 / 24)
    assert found.cost == pytest.approx(625_000 / 3600 / 24 * 6 * 12)


def test_the_page_shows_the_arithmetic_that_the_command_prints() -> None:
    console = Console(width=200, file=StringIO())
    show_sizing(console, Workload(1_000_000_000, texts_per_s=2000, hours=8), Executor(4, 12.0))
    printed = [line.split("│")[1:-1] for line in console.file.getvalue().splitlines() if line.startswith("│")]
    page = (Path(__file__).parents[3] / "docs" / "deployment" / "index.md").read_text(encoding="utf-8")
    assert len(printed) == 5
    for cells in printed:
        assert f"| {' | '.join(cell.strip() for cell in cells)} |" in page


def test_what_one_executor_does_in_time_takes_one() -> None:
    assert sizing(Workload(3600, texts_per_s=1, hours=8, spark_share=1), Executor(price_per_hour=2)) == Sizing(
        1, 1, 1, 2
    )


@given(st.integers(1, 10**12), st.floats(0.01, 1e6), st.floats(0.1, 1000), st.floats(0.05, 1), st.integers(1, 64))
def test_it_ends_in_time_and_one_executor_less_would_not(
    documents: int, texts_per_s: float, hours: float, share: float, slots: int
) -> None:
    found = sizing(Workload(documents, texts_per_s, hours, share), Executor(slots))
    assert found.hours <= hours * (1 + 1e-9)
    if found.executors > 1:
        assert found.slot_hours / ((found.executors - 1) * slots) > hours * (1 - 1e-9)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"documents": 0}, "documents must be more than 0, found 0"),
        ({"texts_per_s": -1.0}, "texts_per_s must be more than 0, found -1.0"),
        ({"hours": float("nan")}, "hours must be more than 0, found nan"),
        ({"spark_share": 1.5}, "spark_share must be more than 0 and at most 1, found 1.5"),
    ],
)
def test_what_no_run_can_be_is_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Workload(**{"documents": 1, "texts_per_s": 1.0, "hours": 1.0, **wrong})


def test_an_executor_that_does_nothing_or_pays_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 slot, found 0"):
        Executor(0)
    with pytest.raises(ConfigError, match="can't be less than 0, found -1"):
        Executor(1, -1)
