"""What `shadow` prints: labels and decisions that another model would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from gliclass_spark.cli.output.result_table import ResultTable

if TYPE_CHECKING:
    from gliclass_spark.runs.shadow_comparison import ShadowComparison

_MAX_ROWS = 10


def show_shadow(console: Console, comparison: ShadowComparison) -> None:
    """Print a table of the labels that change most, one of the decisions that change, and the share of documents."""
    labels = ResultTable(f"Labels in run {escape(comparison.run_id)}, and by {escape(comparison.model)}")
    labels.text("label")
    for heading in ("run", "shadow", "only run", "only shadow", "difference"):
        labels.number(heading)
    for row in comparison.labels[:_MAX_ROWS]:
        counts = (row.tagged, row.shadow, row.only_tagged, row.only_shadow)
        labels.row(escape(row.label), *(f"{count:,}" for count in counts), f"{row.mean_difference:+.3f}")
    labels.print(console)
    if comparison.decisions:
        decisions = ResultTable("Decisions that would change")
        decisions.text("in the run")
        decisions.text("by the shadow")
        decisions.number("documents")
        for change in comparison.decisions[:_MAX_ROWS]:
            decisions.row(escape(change.before), escape(change.now), f"{change.documents:,}")
        decisions.print(console)
    changed = comparison.documents - comparison.same_labels
    console.print(
        f"{changed:,} of {comparison.documents:,} documents would get other labels. Nothing of the pipeline changed.",
        highlight=False,
    )
