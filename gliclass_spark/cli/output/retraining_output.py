"""Results of a retraining: the gate's verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from gliclass_spark.cli.output.result_table import ResultTable


def show_verdict(console: Console, verdict: Mapping[str, Any], page: Path) -> None:
    """Print the result of each rule, the gain on each set, and the path of the page. verdict: content of gate.json."""
    word = "[bold green]promoted[/]" if verdict["promoted"] else "[bold red]refused[/]"
    _rules(verdict["findings"]).print(console)
    _gains(verdict["comparisons"]).print(console)
    for comparison in verdict["comparisons"]:
        if comparison.get("detectable_gain"):
            show_detectable_gain(
                console,
                comparison["name"],
                comparison["texts"],
                comparison["detectable_gain"],
                comparison["texts_for_gain"],
            )
    console.print(f"The candidate is {word}.", highlight=False)
    console.print(f"The page of the verdict: {escape(str(page))}", highlight=False, soft_wrap=True)


def show_detectable_gain(
    console: Console, name: str, texts: int, gain: float, texts_for_gain: Mapping[str, int]
) -> None:
    """Print the gain in macro-F1 that texts of a set detect, and how many texts others need."""
    needed = ", ".join(f"{count:,} for {float(each):+.2f}" for each, count in texts_for_gain.items())
    console.print(
        f"{texts:,} texts of {escape(name)} show a gain of {gain:+.3f} in 4 of 5 cases; texts needed: {needed}",
        highlight=False,
        soft_wrap=True,
    )


def _rules(findings: Sequence[Mapping[str, Any]]) -> ResultTable:
    table = ResultTable("The gate's rules")
    table.number("")
    table.text("rule")
    table.text("measured, and limit")
    for finding in findings:
        mark = "[green]✓[/]" if finding["passed"] else "[red]✗[/]"
        table.row(mark, escape(finding["rule"]), escape(finding["message"]))
    return table


def _gains(comparisons: Sequence[Mapping[str, Any]]) -> ResultTable:
    table = ResultTable("Macro-F1, champion -> candidate")
    table.text("set")
    for heading in ("texts", "macro-F1", "gain", "95% interval", "calibration\nerror"):
        table.number(heading)
    for comparison in comparisons:
        champion, candidate = comparison["champion"], comparison["candidate"]
        low, high = comparison["f1_interval"]
        table.row(
            escape(comparison["name"]),
            f"{comparison['texts']:,}",
            f"{champion['macro_f1']:.3f} -> {candidate['macro_f1']:.3f}",
            f"{candidate['macro_f1'] - champion['macro_f1']:+.3f}",
            f"{low:+.3f} to {high:+.3f}",
            f"{champion['calibration_error']:.3f} -> {candidate['calibration_error']:.3f}",
        )
    return table
