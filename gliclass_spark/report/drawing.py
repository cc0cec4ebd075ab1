"""SVG drawings: matplotlib figures as <svg> elements that take the page's colours and font."""

from __future__ import annotations

import io
import re
from itertools import count
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Placeholder colours of the charts. The page's style sheet gives each variable a light and a dark colour.
INK, MUTED, LINE, ACCENT, WARN, BAD = (f"#00000{number}" for number in range(1, 7))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    WARN: "var(--warn)",
    BAD: "var(--bad)",
}
# Widths in CSS pixels. A narrow figure is also shown on telephones, nearly at full size; a wide one is hidden there.
WIDE, NARROW = 920, 440
_FONT_SIZE = 13
_COLOUR = re.compile("|".join(_VARIABLES))
_FONT_FAMILY = re.compile(r"font-family: [^;]*;? ?")
_REFERENCE = re.compile(r"url\(#")
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, readable aloud, in the page's font
    "svg.hashsalt": "gliclass_spark",  # the same figure gives the same ids
}
_PIXELS_PER_INCH = 72


def blank(width: float, height: float) -> Figure:
    """Return a figure of this size in CSS pixels, without axes or background."""
    figure = Figure(figsize=(width / _PIXELS_PER_INCH, height / _PIXELS_PER_INCH))
    figure.patch.set_visible(False)
    return figure


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure and its axes, whose data coordinates are CSS pixels from the upper left corner."""
    figure = blank(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure, axes


def write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write text with its left end at x, vertically centred on y."""
    style = {"color": INK, "size": _FONT_SIZE, **style}
    # parse_math: a dollar sign in a name starts no formula.
    axes.text(x, y, text, va="center_baseline", parse_math=False, **style)


def shorten(name: str, max_chars: int = 40) -> str:
    """Return a name cut to `max_chars`, with unprintable characters, which XML may not hold, replaced."""
    printable = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
    return printable if len(printable) <= max_chars else f"{printable[: max_chars - 1]}…"


class Drawing:
    """Converter of one page's figures to SVG, with ids that are unique on the page."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def svg(self, figure: Figure, description: str) -> Markup:
        """Return the figure as an <svg> element for inline use, at most as wide as it was drawn.

        `description` is its text alternative (aria-label).
        """
        out = io.StringIO()
        with mpl.rc_context(_SETTINGS):
            figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        root = ElementTree.fromstring(out.getvalue())  # noqa: S314 - written by matplotlib, a line above
        prefix = f"f{next(self._numbers)}-"
        for element in root.iter():
            _adapt(element, prefix)
        for key in ("width", "height", "version"):
            del root.attrib[key]
        width = figure.get_figwidth() * _PIXELS_PER_INCH
        root.attrib |= {"role": "img", "aria-label": description, "style": f"max-width:{width:g}px"}
        return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - ElementTree escapes


def _adapt(element: ElementTree.Element, prefix: str) -> None:
    """Convert an element of a standalone SVG file, in place, to one that may stand in an HTML page."""
    for child in list(element):
        # A figure's style sheet would apply to the whole page.
        if _local_name(child.tag) in ("metadata", "style"):
            element.remove(child)
    element.tag = _local_name(element.tag)
    element.text = element.tail = None if element.tag not in ("text", "tspan") else element.text
    attributes = {_local_name(key): value for key, value in element.items() if key != "target"}
    if element.tag == "g":
        attributes.pop("id", None)
    elif "id" in attributes:
        attributes["id"] = prefix + attributes["id"]
    if element.tag == "use":
        attributes["href"] = f"#{prefix}{attributes['href'][1:]}"
    if "clip-path" in attributes:
        attributes["clip-path"] = _REFERENCE.sub(f"url(#{prefix}", attributes["clip-path"])
    if "style" in attributes:
        style = _FONT_FAMILY.sub("", attributes["style"])
        attributes["style"] = _COLOUR.sub(lambda match: _VARIABLES[match[0]], style)
    element.attrib.clear()
    element.attrib |= attributes


def _local_name(name: str) -> str:
    """Return a name without its XML namespace."""
    return name.rpartition("}")[2]
