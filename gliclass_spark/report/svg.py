"""Matplotlib's figures as SVG that is part of a page: the page's colours and font, and ids that never meet."""

from __future__ import annotations

import io
import re
from itertools import count
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

# What charts are painted with. The page says what colour each variable has, in light and in dark.
INK, MUTED, LINE, ACCENT, WARN, BAD = (f"#00000{number}" for number in range(1, 7))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    WARN: "var(--warn)",
    BAD: "var(--bad)",
}
_PAINT = re.compile("|".join(_VARIABLES))
_FONT_FAMILY = re.compile(r"font-family: [^;]*;? ?")
_REFERENCE = re.compile(r"url\(#")
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched, and set in the page's font
    "svg.hashsalt": "gliclass_spark",  # the same figure gives the same ids
}
_PIXELS_PER_INCH = 72


def blank(width: float, height: float) -> Figure:
    """A figure of these CSS pixels, with no axes and no background."""
    figure = Figure(figsize=(width / _PIXELS_PER_INCH, height / _PIXELS_PER_INCH))
    figure.patch.set_visible(False)
    return figure


class Drawing:
    """The figures of one page."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def svg(self, figure: Figure, described: str) -> Markup:
        """The figure as an <svg> element, safe to stand in a page, at most as wide as it was drawn.

        `described` says what it shows, for people who do not see it.
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
        root.attrib |= {"role": "img", "aria-label": described, "style": f"max-width:{width:g}px"}
        return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - it escapes what it writes


def _adapt(element: ElementTree.Element, prefix: str) -> None:
    """Make an element of an SVG file one of an HTML page, in place."""
    for child in list(element):
        # Its style sheet would hold for the whole page.
        if _plain(child.tag) in ("metadata", "style"):
            element.remove(child)
    element.tag = _plain(element.tag)
    element.text = element.tail = None if element.tag not in ("text", "tspan") else element.text
    attributes = {_plain(key): value for key, value in element.items() if key != "target"}
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
        attributes["style"] = _PAINT.sub(lambda found: _VARIABLES[found[0]], style)
    element.attrib.clear()
    element.attrib |= attributes


def _plain(name: str) -> str:
    """A name without its namespace, which HTML does not write."""
    return name.rpartition("}")[2]
