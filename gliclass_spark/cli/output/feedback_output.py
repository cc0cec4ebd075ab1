"""Results of an ingestion: stored, skipped and refused signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from gliclass_spark.cli.output.result_table import ResultTable

if TYPE_CHECKING:
    from gliclass_spark.spark.jobs.feedback.ingestion import IngestedSignals


def show_feedback(console: Console, name: str, result: IngestedSignals) -> None:
    """Print the counts of an ingestion, and one example for each reason to refuse signals."""
    table = ResultTable(f"Signals for pipeline {escape(name)}")
    table.text("signals")
    table.number("rows")
    for title, count in (("read", result.read), ("new", result.new), ("duplicates", result.duplicates)):
        table.row(title, f"{count:,}")
    if result.documents:
        table.row("without a label: new, about a whole document", f"{result.documents:,}")
    table.row("late: new, about an earlier decision", f"{result.late:,}")
    for reason, refused in result.refused.items():
        table.row(escape(f"refused: {reason}"), f"{refused.count:,}")
    table.row("decisions with contradicting signals", f"{result.contradicting:,}")
    table.print(console)
    for reason, refused in result.refused.items():
        console.print(f"refused: {reason}, such as {refused.example}", markup=False, highlight=False, soft_wrap=True)
