"""What charts are drawn on: a plane of CSS pixels, and text that any name can be."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gliclass_spark.report.svg import INK, blank

# A narrow figure is read on a telephone too, where it is shown at most of its size; a wide one is not.
WIDE, NARROW = 920, 440
_TEXT = 13


def plane(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure whose data coordinates are CSS pixels, from the upper left corner."""
    figure = blank(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure, axes


def write(axes: Axes, left: float, middle: float, text: str, **style: Any) -> None:
    style = {"color": INK, "size": _TEXT, **style}
    # A dollar sign in a name begins no formula.
    axes.text(left, middle, text, va="center_baseline", parse_math=False, **style)


def short(name: str, most: int = 40) -> str:
    """A name that is one line, not too long, and that XML can hold."""
    plain = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"
