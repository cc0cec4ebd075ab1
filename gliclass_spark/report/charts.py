"""The page's charts, drawn by matplotlib. Each gives a figure; colours are names that the page fills in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from gliclass_spark.report import words
from gliclass_spark.report.canvas import NARROW, WIDE, plane, short, write
from gliclass_spark.report.svg import ACCENT, INK, LINE, MUTED, blank


@dataclass(frozen=True)
class Stream:
    """Documents that go one way, and the ways that they part into. `link`: an anchor of the page."""

    name: str
    documents: int
    paint: str
    link: str | None = None
    parts: Sequence[Stream] = ()


_COLUMN = 335
_BAR = 8
_TALLEST = 210
_LINE_HEIGHT = 18
_MOST_PARTS = 12


def flow(stream: Stream) -> Figure:
    """A stream and its parts from left to right, as wide as they hold documents; the smallest parts together."""
    scale = _TALLEST / max(stream.documents, 1)
    gathered = _gathered(stream)
    height = _slot(gathered, scale)
    figure, axes = plane(WIDE, height)
    _draw(axes, gathered, scale, 1, 0)
    return figure


def _gathered(stream: Stream) -> Stream:
    """Without empty parts, and with the smallest of more than _MOST_PARTS made into one."""
    parts = sorted((part for part in stream.parts if part.documents), key=lambda part: -part.documents)
    rest = parts[_MOST_PARTS - 1 :]
    if len(rest) > 1:
        together = Stream(f"{len(rest)} others", sum(part.documents for part in rest), rest[0].paint)
        parts = [*parts[: _MOST_PARTS - 1], together]
    return Stream(stream.name, stream.documents, stream.paint, stream.link, [_gathered(part) for part in parts])


def _slot(stream: Stream, scale: float) -> float:
    """The height that a stream and all behind it take."""
    return max(stream.documents * scale, _LINE_HEIGHT, sum(_slot(part, scale) for part in stream.parts)) + 6


def _draw(axes: Axes, stream: Stream, scale: float, left: float, top: float) -> float:
    """Draw a stream into the slot that begins at `top`. Gives the upper edge of its bar."""
    height = max(stream.documents * scale, 1)
    upper = top + (_slot(stream, scale) - height) / 2
    # A document may go more than one way: then the ways share the width of the stream that they come from.
    width = stream.documents / max(sum(part.documents for part in stream.parts), stream.documents, 1)
    leaves = upper
    slot_top = top + (_slot(stream, scale) - sum(_slot(part, scale) for part in stream.parts)) / 2
    for part in stream.parts:
        arrives = _draw(axes, part, scale, left + _COLUMN, slot_top)
        slot_top += _slot(part, scale)
        flowing = part.documents * scale
        band = _band(left + _BAR, leaves, flowing * width, left + _COLUMN, arrives, max(flowing, 1))
        axes.add_patch(PathPatch(band, facecolor=part.paint, edgecolor="none", alpha=0.2))
        leaves += flowing * width
    axes.add_patch(Rectangle((left, upper), _BAR, height, facecolor=stream.paint, url=stream.link))
    text = f"{words.number(stream.documents)} {short(stream.name)}"
    write(axes, left + _BAR + 7, upper + height / 2, text, url=stream.link)
    return upper


def _band(left: float, top: float, height: float, right: float, end_top: float, end_height: float) -> Path:
    bend = (left + right) / 2
    points = [
        (left, top),
        *((bend, top), (bend, end_top), (right, end_top)),
        (right, end_top + end_height),
        *((bend, end_top + end_height), (bend, top + height), (left, top + height)),
        (left, top),
    ]
    curve = [Path.CURVE4] * 3
    return Path(points, [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY])


@dataclass(frozen=True)
class Bar:
    """A horizontal bar. `value` is its length, `text` says it in words; `mark`: what is usual."""

    name: str
    value: float
    text: str
    paint: str
    mark: float | None = None


def bars(rows: Sequence[Bar]) -> Figure:
    """Bars below each other, their names above them, a stroke where a bar usually ends."""
    row_height, thick = 40, 14
    figure, axes = plane(NARROW, row_height * len(rows))
    longest = max(max(row.value, row.mark or 0) for row in rows) or 1
    scale = (NARROW - 130) / longest
    for number, row in enumerate(rows):
        top = number * row_height
        write(axes, 0, top + 8, short(row.name))
        axes.add_patch(Rectangle((0, top + 20), max(row.value * scale, 1), thick, facecolor=row.paint))
        if row.mark is not None:
            axes.add_patch(Rectangle((row.mark * scale - 1, top + 17), 2, thick + 6, facecolor=INK))
        end = max(row.value, row.mark or 0) * scale
        write(axes, end + 8, top + 20 + thick / 2, row.text, color=MUTED)
    return figure


def columns(values: Sequence[float], texts: Sequence[str], names: Sequence[str], paint: str) -> Figure:
    """Columns from the oldest to the newest, which stands out; each has its value in words above, its name below."""
    height, base, top = 170, 146, 20
    figure, axes = plane(NARROW, height)
    step = NARROW / max(len(values), 4)
    scale = (base - top) / (max(values) or 1)
    for number, (value, text, name) in enumerate(zip(values, texts, names, strict=True)):
        newest = number == len(values) - 1
        left, tall = number * step, max(value * scale, 1)
        column = Rectangle((left + 4, base - tall), step - 8, tall, facecolor=paint if newest else MUTED)
        column.set_alpha(1 if newest else 0.45)
        axes.add_patch(column)
        write(axes, left + step / 2, base - tall - 9, text, ha="center", size=11)
        write(axes, left + step / 2, base + 13, name, ha="center", size=11, color=INK if newest else MUTED)
    axes.add_patch(Rectangle((0, base), step * len(values), 1, facecolor=LINE))
    return figure


def histogram(bins: Sequence[int], reference: Sequence[int] | None, threshold: float | None) -> Figure:
    """Shares of scores over [0, 1]: this run's filled, the reference's as a line, the threshold dashed.

    Heights are square roots of the shares: most scores of most labels are near 0, and the others are
    the ones to see.
    """
    width, height = 200, 44
    figure = blank(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(-0.03, 1.06))
    axes.set_axis_off()
    edges = [number / len(bins) for number in range(len(bins) + 1)]
    tallest = max(_shares(bins) + _shares(reference or [])) or 1
    axes.stairs([(share / tallest) ** 0.5 for share in _shares(bins)], edges, fill=True, color=ACCENT, alpha=0.55)
    if reference:
        axes.stairs([(share / tallest) ** 0.5 for share in _shares(reference)], edges, color=INK, linewidth=1.2)
    axes.plot([0, 1], [0, 0], color=LINE, linewidth=1)
    if threshold is not None:
        axes.plot([threshold, threshold], [0, 1.06], color=INK, linewidth=1, linestyle=(0, (2, 2)))
    return figure


def course(shares: Sequence[float]) -> Figure:
    """How a share went from run to run, between 0 and its highest; the newest has a dot."""
    width, height = 96, 30
    figure = blank(width, height)
    last = len(shares) - 1
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.3, last + 0.4), ylim=(-0.1, 1.2))
    axes.set_axis_off()
    highest = max(shares) or 1
    axes.plot([0, last], [0, 0], color=LINE, linewidth=1)
    axes.plot(range(last + 1), [share / highest for share in shares], color=MUTED, linewidth=1.5)
    axes.plot([last], [shares[-1] / highest], color=ACCENT, marker="o", markersize=6)
    return figure


def _shares(bins: Sequence[int]) -> list[float]:
    total = sum(bins) or 1
    return [found / total for found in bins]
