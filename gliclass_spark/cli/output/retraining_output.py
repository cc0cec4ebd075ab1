"""Results of a retraining: the gate's verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def show_verdict(console: Console, verdict: Mapping[str, Any], page: Path) -> None:
    """Print the result of each rule, the gain on each set, and the path of the page. verdict: content of gate.json."""
    word = "[bold green]promoted[/]" if verdict["promoted"] else "[bold red]refused[/]"
    console.print(_rules(verdict["findings"]))
    console.print(_gains(verdict["comparisons"]))
    console.print(f"The candidate is {word}.", highlight=False)
    console.print(f"The page of the verdict: {escape(str(page))}", highlight=False, soft_wrap=True)


def _rules(findings: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="The gate's rules", title_justify="left")
    table.add_column("")
    table.add_column("rule", no_wrap=True)
    table.add_column("measured, and limit")
    for finding in findings:
        mark = "[green]✓[/]" if finding["passed"] else "[red]✗[/]"
        table.add_row(mark, escape(finding["rule"]), escape(finding["message"]))
    return table


def _gains(comparisons: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="Macro-F1, champion -> candidate", title_justify="left")
    table.add_column("set")
    for heading in ("texts", "macro-F1", "gain", "95% interval", "calibration error"):
        table.add_column(heading, justify="right")
    for comparison in comparisons:
        champion, candidate = comparison["champion"], comparison["candidate"]
        low, high = comparison["f1_interval"]
        table.add_row(
            escape(comparison["name"]),
            f"{comparison['texts']:,}",
            f"{champion['macro_f1']:.3f} -> {candidate['macro_f1']:.3f}",
            f"{candidate['macro_f1'] - champion['macro_f1']:+.3f}",
            f"{low:+.3f} to {high:+.3f}",
            f"{champion['calibration_error']:.3f} -> {candidate['calibration_error']:.3f}",
        )
    return table
