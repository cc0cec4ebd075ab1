"""Sankey chart: how documents split into outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from gliclass_spark.report import number_format
from gliclass_spark.report.drawing import WIDE, canvas, shorten, write

_COLUMN_WIDTH = 335
_BAR_WIDTH = 8
_MAX_BAR_HEIGHT = 210
_LINE_HEIGHT = 18
_SLOT_GAP = 6
_MAX_PARTS = 12


@dataclass(frozen=True)
class Stream:
    """Documents of one outcome, and the parts that they split into. link: an anchor of the page."""

    name: str
    documents: int
    colour: str
    link: str | None = None
    parts: Sequence[Stream] = ()


def sankey(stream: Stream) -> Figure:
    """Return a chart of a stream and its parts, from left to right, each as wide as its share of documents."""
    scale = _MAX_BAR_HEIGHT / max(stream.documents, 1)
    shown = _merge_small_parts(stream)
    figure, axes = canvas(WIDE, _slot_height(shown, scale))
    _draw(axes, shown, scale, 1, 0)
    return figure


def _merge_small_parts(stream: Stream) -> Stream:
    """Return the stream without empty parts, and with the smallest of more than _MAX_PARTS merged into one."""
    parts = sorted((part for part in stream.parts if part.documents), key=lambda part: -part.documents)
    small = parts[_MAX_PARTS - 1 :]
    if len(small) > 1:
        merged = Stream(f"{len(small)} others", sum(part.documents for part in small), small[0].colour)
        parts = [*parts[: _MAX_PARTS - 1], merged]
    return Stream(stream.name, stream.documents, stream.colour, stream.link, [_merge_small_parts(p) for p in parts])


def _slot_height(stream: Stream, scale: float) -> float:
    """Return the height that a stream and its parts take, with the gap below them."""
    parts_height = sum(_slot_height(part, scale) for part in stream.parts)
    return max(stream.documents * scale, _LINE_HEIGHT, parts_height) + _SLOT_GAP


def _draw(axes: Axes, stream: Stream, scale: float, left: float, slot_top: float) -> float:
    """Draw a stream into the slot that starts at `slot_top`, and return the y of its bar's upper edge."""
    bar_height = max(stream.documents * scale, 1)
    bar_top = slot_top + (_slot_height(stream, scale) - bar_height) / 2
    # A document may be in several parts: then they share the bar's height.
    narrowing = stream.documents / max(sum(part.documents for part in stream.parts), stream.documents, 1)
    band_top = bar_top
    parts_height = sum(_slot_height(part, scale) for part in stream.parts)
    part_slot_top = slot_top + (_slot_height(stream, scale) - parts_height) / 2
    for part in stream.parts:
        part_top = _draw(axes, part, scale, left + _COLUMN_WIDTH, part_slot_top)
        part_slot_top += _slot_height(part, scale)
        part_height = part.documents * scale
        band = _band(
            left + _BAR_WIDTH,
            band_top,
            part_height * narrowing,
            left + _COLUMN_WIDTH,
            part_top,
            max(part_height, 1),
        )
        axes.add_patch(PathPatch(band, facecolor=part.colour, edgecolor="none", alpha=0.2))
        band_top += part_height * narrowing
    axes.add_patch(Rectangle((left, bar_top), _BAR_WIDTH, bar_height, facecolor=stream.colour, url=stream.link))
    text = f"{number_format.number(stream.documents)} {shorten(stream.name)}"
    write(axes, left + _BAR_WIDTH + 7, bar_top + bar_height / 2, text, url=stream.link)
    return bar_top


def _band(left: float, top: float, height: float, right: float, end_top: float, end_height: float) -> Path:
    middle = (left + right) / 2
    points = [
        (left, top),
        *((middle, top), (middle, end_top), (right, end_top)),
        (right, end_top + end_height),
        *((middle, end_top + end_height), (middle, top + height), (left, top + height)),
        (left, top),
    ]
    curve = [Path.CURVE4] * 3
    return Path(points, [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY])
