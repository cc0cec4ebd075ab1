"""What the gate said of a retraining's candidate, for people who look at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def show_verdict(console: Console, verdict: Mapping[str, Any], page: Path) -> None:
    """Print what each rule found, the gain on each set, and where the page is. verdict: what gate.json holds."""
    word = "[bold green]promoted[/]" if verdict["promoted"] else "[bold red]refused[/]"
    console.print(_findings(verdict["findings"]))
    console.print(_sets(verdict["comparisons"]))
    console.print(f"The candidate is {word}.", highlight=False)
    console.print(f"The page of the verdict: {escape(str(page))}", highlight=False, soft_wrap=True)


def _findings(findings: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="The gate's rules", title_justify="left")
    table.add_column("")
    table.add_column("rule", no_wrap=True)
    table.add_column("found, and asked")
    for finding in findings:
        mark = "[green]✓[/]" if finding["passed"] else "[red]✗[/]"
        table.add_row(mark, escape(finding["rule"]), escape(finding["message"]))
    return table


def _sets(comparisons: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="Macro-F1, champion -> candidate", title_justify="left")
    table.add_column("set")
    for name in ("texts", "macro-F1", "gain", "95% interval", "calibration error"):
        table.add_column(name, justify="right")
    for found in comparisons:
        champion, candidate = found["champion"], found["candidate"]
        low, high = found["f1_interval"]
        table.add_row(
            escape(found["name"]),
            f"{found['texts']:,}",
            f"{champion['macro_f1']:.3f} -> {candidate['macro_f1']:.3f}",
            f"{candidate['macro_f1'] - champion['macro_f1']:+.3f}",
            f"{low:+.3f} to {high:+.3f}",
            f"{champion['calibration_error']:.3f} -> {candidate['calibration_error']:.3f}",
        )
    return table
