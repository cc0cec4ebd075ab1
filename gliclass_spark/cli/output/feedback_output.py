"""Results of an ingestion: stored, skipped and refused signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from gliclass_spark.spark.jobs.ingest_feedback import IngestedSignals


def show_feedback(console: Console, name: str, result: IngestedSignals) -> None:
    """Print the counts of an ingestion, and one example for each reason to refuse signals."""
    table = Table(title=f"Signals for pipeline {name}", title_justify="left")
    table.add_column("signals")
    table.add_column("rows", justify="right")
    for title, count in (("read", result.read), ("new", result.new), ("duplicates", result.duplicates)):
        table.add_row(title, f"{count:,}")
    table.add_row("late: new, about an earlier decision", f"{result.late:,}")
    for reason, refused in result.refused.items():
        table.add_row(escape(f"refused: {reason}"), f"{refused.count:,}")
    table.add_row("decisions with contradicting signals", f"{result.contradicting:,}")
    console.print(table)
    for reason, refused in result.refused.items():
        console.print(f"refused: {reason}, such as {refused.example}", markup=False, highlight=False, soft_wrap=True)
