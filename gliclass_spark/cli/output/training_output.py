"""Results of an evaluation and of a calibration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from gliclass_spark.cli.output.result_table import ResultTable

if TYPE_CHECKING:
    from gliclass_spark.training.evaluation.calibrate import Calibration
    from gliclass_spark.training.evaluation.evaluate import Score


@dataclass(frozen=True)
class _Column:
    contender: str
    shots: int

    @property
    def heading(self) -> str:
        return f"{self.contender}\n{self.shots} examples a label" if self.shots else f"{self.contender}\nzero-shot"


def show_scores(console: Console, scores: Sequence[Score]) -> None:
    """Print the macro-F1 of each contender on each set, the means, and texts/s; with several seeds, mean and range.

    If there is only one set, also print the F1 of each label.
    """
    cells: defaultdict[tuple[str, _Column], list[Score]] = defaultdict(list)
    for score in scores:
        cells[score.name, _Column(score.contender, score.shots)].append(score)
    columns = list(dict.fromkeys(column for _, column in cells))
    sets = {score.name: score for score in scores}
    _print_in_parts(console, columns, lambda part: _macro_f1(sets, cells, part))
    if len(sets) == 1:
        [name] = sets
        by_column = {column: cells[name, column] for column in columns}
        _print_in_parts(console, columns, lambda part: _f1_by_label(name, by_column, part))


def _print_in_parts(
    console: Console, columns: Sequence[_Column], build: Callable[[Sequence[_Column]], ResultTable]
) -> None:
    """Print the table of these columns, or several, below each other, where the console is too narrow for one."""
    size = len(columns)
    while True:
        parts = [build(columns[start : start + size]) for start in range(0, len(columns), size)]
        if size == 1 or all(part.min_width <= console.width for part in parts):
            break
        size -= 1
    for part in parts:
        part.print(console)


def _macro_f1(
    sets: Mapping[str, Score], cells: Mapping[tuple[str, _Column], list[Score]], columns: Sequence[_Column]
) -> ResultTable:
    table = _table("Macro-F1", ["set", "labels", "texts"], columns)
    for name, any_score in sets.items():
        spreads = [_mean_and_range([score.macro_f1 for score in cells[name, column]]) for column in columns]
        table.row(escape(name), str(any_score.labels), str(any_score.rows), *spreads)
    table.section()
    by_column = [[cells[name, column] for name in sets] for column in columns]
    macro = [fmean(fmean(score.macro_f1 for score in seeds) for seeds in column) for column in by_column]
    micro = [fmean(fmean(score.micro_f1 for score in seeds) for seeds in column) for column in by_column]
    speeds = [median(score.texts_per_s for seeds in column for score in seeds) for column in by_column]
    table.row("mean", "", "", *(f"{mean:.3f}" for mean in macro))
    table.row("mean micro-F1", "", "", *(f"{mean:.3f}" for mean in micro))
    table.row("texts/s", "", "", *(f"{speed:.0f}" for speed in speeds))
    return table


def _f1_by_label(name: str, scores: Mapping[_Column, list[Score]], columns: Sequence[_Column]) -> ResultTable:
    """The first contender's worst labels come first. A label that a contender never met has no F1."""
    by_column = {column: _values_by_label(seeds) for column, seeds in scores.items()}
    first = next(iter(by_column.values()))
    labels = {label for values in by_column.values() for label in values}
    table = _table(f"F1 of each label of {escape(name)}", ["label"], columns)
    for label in sorted(labels, key=lambda label: (fmean(first.get(label, [1.0])), label)):
        shown = [by_column[column] for column in columns]
        cells = (_mean_and_range(values[label]) if label in values else "" for values in shown)
        table.row(escape(label), *cells)
    return table


def _values_by_label(scores: Sequence[Score]) -> dict[str, list[float]]:
    values: defaultdict[str, list[float]] = defaultdict(list)
    for score in scores:
        for label, f1 in score.per_label.items():
            values[label].append(f1)
    return dict(values)


def _table(title: str, left: Sequence[str], columns: Sequence[_Column]) -> ResultTable:
    table = ResultTable(title)
    for position, heading in enumerate(left):
        table.number(heading) if position else table.text(heading)
    for column in columns:
        table.number(column.heading)
    return table


def show_calibration(console: Console, calibration: Calibration) -> None:
    """Print each label's temperature, bias and threshold, and the calibration errors before and after."""
    label_set = calibration.label_set
    table = ResultTable(f"Calibrated {escape(label_set.name)}")
    table.text("label")
    for heading in ("temperature", "bias", "threshold"):
        table.number(heading)
    columns = (label_set.names, label_set.temperatures, label_set.biases, label_set.thresholds)
    for label, temperature, bias, threshold in zip(*columns, strict=True):
        table.row(escape(label), f"{temperature:.3f}", f"{bias:+.3f}", f"{threshold:.3f}")
    table.print(console)
    errors = ResultTable(
        f"Expected calibration error on {calibration.evaluated_on:,} held-out texts "
        f"({calibration.fitted_on:,} were fitted to)"
    )
    errors.text("over")
    errors.number("before")
    errors.number("after")
    errors.row("all scores", f"{calibration.before.error:.3f}", f"{calibration.after.error:.3f}")
    errors.row("mean of labels", f"{calibration.label_error_before:.3f}", f"{calibration.label_error_after:.3f}")
    errors.print(console)
    for note in calibration.notes:
        console.print(note, style="yellow", highlight=False, soft_wrap=True, markup=False)


def _mean_and_range(values: Sequence[float]) -> str:
    mean = f"{fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f}-{max(values):.3f})"
