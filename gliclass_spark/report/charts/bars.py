"""Bar charts: horizontal bars, columns by run, and histograms of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gliclass_spark.report.drawing import ACCENT, INK, LINE, MUTED, NARROW, blank, canvas, shorten, write


@dataclass(frozen=True)
class Bar:
    """A horizontal bar. value: its length; text: the value, formatted; usual: the value of a reference mark."""

    name: str
    value: float
    text: str
    colour: str
    usual: float | None = None


def horizontal_bars(rows: Sequence[Bar]) -> Figure:
    """Return a chart of bars below each other, names above them, with a stroke at each bar's usual value."""
    row_height, bar_height = 40, 14
    figure, axes = canvas(NARROW, row_height * len(rows))
    scale = (NARROW - 130) / (max(max(row.value, row.usual or 0) for row in rows) or 1)
    for index, row in enumerate(rows):
        top = index * row_height
        write(axes, 0, top + 8, shorten(row.name))
        axes.add_patch(Rectangle((0, top + 20), max(row.value * scale, 1), bar_height, facecolor=row.colour))
        if row.usual is not None:
            axes.add_patch(Rectangle((row.usual * scale - 1, top + 17), 2, bar_height + 6, facecolor=INK))
        end = max(row.value, row.usual or 0) * scale
        write(axes, end + 8, top + 20 + bar_height / 2, row.text, color=MUTED)
    return figure


def columns(values: Sequence[float], texts: Sequence[str], names: Sequence[str], colour: str) -> Figure:
    """Return a column chart, oldest first, the newest highlighted; texts above the columns, names below."""
    height, base, top = 170, 146, 20
    figure, axes = canvas(NARROW, height)
    step = NARROW / max(len(values), 4)
    scale = (base - top) / (max(values) or 1)
    for index, (value, text, name) in enumerate(zip(values, texts, names, strict=True)):
        is_newest = index == len(values) - 1
        left, column_height = index * step, max(value * scale, 1)
        column = Rectangle(
            (left + 4, base - column_height), step - 8, column_height, facecolor=colour if is_newest else MUTED
        )
        column.set_alpha(1 if is_newest else 0.45)
        axes.add_patch(column)
        write(axes, left + step / 2, base - column_height - 9, text, ha="center", size=11)
        write(axes, left + step / 2, base + 13, name, ha="center", size=11, color=INK if is_newest else MUTED)
    axes.add_patch(Rectangle((0, base), step * len(values), 1, facecolor=LINE))
    return figure


def histogram(bins: Sequence[int], reference: Sequence[int] | None, threshold: float | None) -> Figure:
    """Return a histogram of scores over [0, 1]: this run filled, the reference as a line, the threshold dashed.

    Heights are square roots of the shares: most scores of most labels are near 0, and the rare others matter.
    """
    width, height = 200, 44
    figure = blank(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(-0.03, 1.06))
    axes.set_axis_off()
    edges = [index / len(bins) for index in range(len(bins) + 1)]
    max_share = max(_shares(bins) + _shares(reference or [])) or 1
    axes.stairs([(share / max_share) ** 0.5 for share in _shares(bins)], edges, fill=True, color=ACCENT, alpha=0.55)
    if reference:
        axes.stairs([(share / max_share) ** 0.5 for share in _shares(reference)], edges, color=INK, linewidth=1.2)
    axes.plot([0, 1], [0, 0], color=LINE, linewidth=1)
    if threshold is not None:
        axes.plot([threshold, threshold], [0, 1.06], color=INK, linewidth=1, linestyle=(0, (2, 2)))
    return figure


def _shares(bins: Sequence[int]) -> list[float]:
    total = sum(bins) or 1
    return [count / total for count in bins]
