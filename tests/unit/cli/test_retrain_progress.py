"""Progress of a retraining's training on a terminal: one line, at every width."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from gliclass_spark.cli.retrain_commands import training_bar

METRICS = "reward 0.1234  kl 0.0012  clipfrac 0.25  pg_loss -0.01234"


@pytest.mark.parametrize(("columns", "metrics"), [(60, "reward 0.1234"), (80, "clipfrac"), (120, METRICS)])
def test_a_training_is_one_line_with_its_updates(columns: int, metrics: str) -> None:
    bar = training_bar()
    bar.add_task("supervised 120/200", total=200, completed=120, metrics=METRICS)
    console = Console(width=columns, file=StringIO(), force_terminal=True, color_system=None)
    console.print(bar.get_renderable())
    [line] = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(line) <= columns
    assert "supervised" in line
    assert "120/200" in line
    assert metrics in line
