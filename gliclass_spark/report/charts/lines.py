"""Line charts: sparklines, learning curves, and changes from champion to candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.figure import Figure

from gliclass_spark.report.drawing import ACCENT, BAD, INK, LINE, MUTED, NARROW, blank, canvas, shorten, write

_MAX_NAME_CHARS = 30


@dataclass(frozen=True)
class Change:
    """A label's F1 in [0, 1] before and after, None where it is undefined. text: both values, formatted."""

    name: str
    before: float | None
    after: float | None
    text: str

    @property
    def difference(self) -> float:
        """The gain; an undefined value counts as 0."""
        return (self.after or 0.0) - (self.before or 0.0)


def dumbbells(changes: Sequence[Change]) -> Figure:
    """Return a chart with a row for each label: a ring before, a dot after, and a bar between them."""
    row_height, margin = 40, 8
    figure, axes = canvas(NARROW, row_height * len(changes))
    for index, change in enumerate(changes):
        top = index * row_height
        y, colour = top + 26, BAD if change.difference < 0 else ACCENT
        before, after = (
            None if value is None else margin + value * (NARROW - 2 * margin) for value in (change.before, change.after)
        )
        write(axes, 0, top + 8, shorten(change.name, _MAX_NAME_CHARS))
        write(axes, NARROW, top + 8, change.text, color=MUTED, ha="right")
        axes.plot([margin, NARROW - margin], [y, y], color=LINE, linewidth=1)
        if before is not None and after is not None:
            axes.plot([before, after], [y, y], color=colour, linewidth=4, alpha=0.35, solid_capstyle="butt")
        if after is not None:
            axes.plot([after], [y], color=colour, marker="o", markersize=8)
        if before is not None:
            # Not filled: both stay visible where they are equal.
            axes.plot([before], [y], color=INK, marker="o", markersize=9, fillstyle="none", markeredgewidth=1.5)
    return figure


def gain_interval(gain: float, low: float, high: float, extent: float) -> Figure:
    """Return a chart of a gain and its interval, on a line from -extent to +extent with a stroke at 0."""
    width, height, margin = 160, 24, 6
    figure, axes = canvas(width, height)
    y = height / 2
    x_low, x_gain, x_high = (width / 2 + value / extent * (width / 2 - margin) for value in (low, gain, high))
    axes.plot([margin, width - margin], [y, y], color=LINE, linewidth=1)
    axes.plot([width / 2, width / 2], [2, height - 2], color=MUTED, linewidth=1)
    colour = BAD if gain < 0 else ACCENT
    axes.plot([x_low, x_high], [y, y], color=colour, linewidth=3, alpha=0.45)
    axes.plot([x_gain], [y], color=colour, marker="o", markersize=7)
    return figure


def learning_curve(steps: Sequence[float], values: Sequence[float]) -> Figure:
    """Return a chart of values over steps: a thin line, and a thick one for the running mean."""
    width, height, left, base, top, size = 380, 130, 48, 104, 10, 11
    figure, axes = canvas(width, height)
    low, high = min(values), max(values)
    x_scale = (width - left - 8) / ((steps[-1] - steps[0]) or 1)
    y_scale = (base - top) / ((high - low) or 1)
    xs = [left + (step - steps[0]) * x_scale for step in steps]
    axes.plot([left, width - 8], [base, base], color=LINE, linewidth=1)
    axes.plot(xs, [base - (value - low) * y_scale for value in values], color=MUTED, linewidth=1, alpha=0.5)
    smoothed = [base - (value - low) * y_scale for value in _running_mean(values)]
    axes.plot(xs, smoothed, color=ACCENT, linewidth=2)
    axes.plot(xs[-1:], smoothed[-1:], color=ACCENT, marker="o", markersize=5)
    write(axes, left - 8, base, f"{low:.3g}", ha="right", size=size, color=MUTED)
    if high > low:
        write(axes, left - 8, top, f"{high:.3g}", ha="right", size=size, color=MUTED)
    write(axes, left, base + 15, f"step {steps[0]:,.0f}", size=size, color=MUTED)
    if len(steps) > 1:
        write(axes, width - 8, base + 15, f"{steps[-1]:,.0f}", ha="right", size=size, color=MUTED)
    return figure


def sparkline(shares: Sequence[float]) -> Figure:
    """Return a small line chart of a share by run, from 0 to its maximum, with a dot at the newest run."""
    width, height = 96, 30
    figure = blank(width, height)
    last = len(shares) - 1
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.3, last + 0.4), ylim=(-0.1, 1.2))
    axes.set_axis_off()
    max_share = max(shares) or 1
    axes.plot([0, last], [0, 0], color=LINE, linewidth=1)
    axes.plot(range(last + 1), [share / max_share for share in shares], color=MUTED, linewidth=1.5)
    axes.plot([last], [shares[-1] / max_share], color=ACCENT, marker="o", markersize=6)
    return figure


def _running_mean(values: Sequence[float]) -> list[float]:
    """Return the mean of each value and its neighbours, over a window of a tenth of all values."""
    half = len(values) // 20
    return [fmean(values[max(index - half, 0) : index + half + 1]) for index in range(len(values))]
