"""The charts of a verdict's page: labels before and after, a gain and its interval, the course of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.figure import Figure

from gliclass_spark.report.canvas import NARROW, plane, short, write
from gliclass_spark.report.svg import ACCENT, BAD, INK, LINE, MUTED

_NAME_CHARS = 30


@dataclass(frozen=True)
class Pair:
    """A label's F1 in [0, 1] before and after; None where it is not known. `text` says both in words."""

    name: str
    before: float | None
    after: float | None
    text: str

    @property
    def change(self) -> float:
        """What is not known counts as 0."""
        return (self.after or 0.0) - (self.before or 0.0)


def dumbbells(pairs: Sequence[Pair]) -> Figure:
    """Labels below each other, each with a ring where it was, a dot where it is, and a bar from one to the other."""
    row_height, edge = 40, 8
    figure, axes = plane(NARROW, row_height * len(pairs))
    for number, pair in enumerate(pairs):
        top = number * row_height
        middle, paint = top + 26, BAD if pair.change < 0 else ACCENT
        before, after = (
            None if value is None else edge + value * (NARROW - 2 * edge) for value in (pair.before, pair.after)
        )
        write(axes, 0, top + 8, short(pair.name, _NAME_CHARS))
        write(axes, NARROW, top + 8, pair.text, color=MUTED, ha="right")
        axes.plot([edge, NARROW - edge], [middle, middle], color=LINE, linewidth=1)
        if before is not None and after is not None:
            axes.plot([before, after], [middle, middle], color=paint, linewidth=4, alpha=0.35, solid_capstyle="butt")
        if after is not None:
            axes.plot([after], [middle], color=paint, marker="o", markersize=8)
        if before is not None:
            # Not filled: where both are the same, both are seen.
            axes.plot([before], [middle], color=INK, marker="o", markersize=9, fillstyle="none", markeredgewidth=1.5)
    return figure


def gain(found: float, low: float, high: float, extent: float) -> Figure:
    """A gain and its interval, on a line from -extent to +extent with a stroke at 0."""
    width, height, edge = 160, 24, 6
    figure, axes = plane(width, height)
    middle = height / 2
    at_low, at, at_high = (width / 2 + value / extent * (width / 2 - edge) for value in (low, found, high))
    axes.plot([edge, width - edge], [middle, middle], color=LINE, linewidth=1)
    axes.plot([width / 2, width / 2], [2, height - 2], color=MUTED, linewidth=1)
    paint = BAD if found < 0 else ACCENT
    axes.plot([at_low, at_high], [middle, middle], color=paint, linewidth=3, alpha=0.45)
    axes.plot([at], [middle], color=paint, marker="o", markersize=7)
    return figure


def curve(steps: Sequence[float], values: Sequence[float]) -> Figure:
    """Values over steps, each thin and their running mean thick, between the lowest and the highest."""
    width, height, left, base, top, size = 380, 130, 48, 104, 10, 11
    figure, axes = plane(width, height)
    low, high = min(values), max(values)
    across = (width - left - 8) / ((steps[-1] - steps[0]) or 1)
    up = (base - top) / ((high - low) or 1)
    xs = [left + (step - steps[0]) * across for step in steps]
    axes.plot([left, width - 8], [base, base], color=LINE, linewidth=1)
    axes.plot(xs, [base - (value - low) * up for value in values], color=MUTED, linewidth=1, alpha=0.5)
    smooth = [base - (value - low) * up for value in _running_mean(values)]
    axes.plot(xs, smooth, color=ACCENT, linewidth=2)
    axes.plot(xs[-1:], smooth[-1:], color=ACCENT, marker="o", markersize=5)
    write(axes, left - 8, base, f"{low:.3g}", ha="right", size=size, color=MUTED)
    if high > low:
        write(axes, left - 8, top, f"{high:.3g}", ha="right", size=size, color=MUTED)
    write(axes, left, base + 15, f"step {steps[0]:,.0f}", size=size, color=MUTED)
    if len(steps) > 1:
        write(axes, width - 8, base + 15, f"{steps[-1]:,.0f}", ha="right", size=size, color=MUTED)
    return figure


def _running_mean(values: Sequence[float]) -> list[float]:
    """Of each value and its neighbours, a tenth of all in the middle."""
    half = len(values) // 20
    return [fmean(values[max(at - half, 0) : at + half + 1]) for at in range(len(values))]
