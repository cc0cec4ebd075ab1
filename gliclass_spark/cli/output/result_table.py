"""A table for any width: numbers stay whole, and long texts give way."""

from __future__ import annotations

import textwrap
from typing import Literal

from rich.console import Console
from rich.markup import render
from rich.table import Table
from rich.text import Text

_MAX_HEADING_WIDTH = 20
_MIN_LINE_WIDTH = 12
_MIN_TEXT_WIDTH = 6
_BORDER, _BORDERS = 1, 3  # of the table's left side; of each column: two spaces and a line

_Kind = Literal["number", "text", "line"]


class ResultTable:
    """A table whose columns are numbers, which never wrap or shrink; texts, which wrap; and lines, which are cut.

    Where the space ends, lines give way first, then texts. If the numbers alone are wider than the console, the table
    is wider than it: no figure is lost.
    """

    def __init__(self, title: str) -> None:
        self._table = Table(title=title, title_justify="left")
        self._kinds: list[_Kind] = []
        self._widths: list[int] = []  # that each column would take

    def number(self, heading: str) -> None:
        """Add a column of figures, or of other short values that only make sense whole."""
        parts = (textwrap.fill(part, _MAX_HEADING_WIDTH, break_on_hyphens=False) for part in heading.split("\n"))
        self._add("number", "\n".join(parts))

    def text(self, heading: str) -> None:
        """Add a column of texts, with markup, that wrap between words."""
        self._add("text", heading)

    def line(self, heading: str) -> None:
        """Add a column of plain texts whose lines end in "…" where the space ends."""
        self._add("line", heading)

    def row(self, *cells: str) -> None:
        """Add a row. Cells of lines are plain text, the others markup."""
        shown = [
            Text(cell, no_wrap=True, overflow="ellipsis") if kind == "line" else render(cell)
            for kind, cell in zip(self._kinds, cells, strict=True)
        ]
        self._widths = [max(width, _width(cell)) for width, cell in zip(self._widths, shown, strict=True)]
        self._table.add_row(*shown)

    def section(self) -> None:
        """Draw a line below the last row."""
        self._table.add_section()

    @property
    def row_count(self) -> int:
        """The number of rows."""
        return self._table.row_count

    @property
    def min_width(self) -> int:
        """The width below which numbers would be lost."""
        smallest = {"text": _MIN_TEXT_WIDTH, "line": _MIN_LINE_WIDTH}
        columns = zip(self._kinds, self._widths, strict=True)
        return self._frame_width + sum(min(width, smallest.get(kind, width)) for kind, width in columns)

    def print(self, console: Console) -> None:
        """Print the table, at most as wide as the console if the numbers allow it."""
        available = max(console.width, self.min_width)
        spare = available - self._frame_width
        spare -= sum(width for kind, width in zip(self._kinds, self._widths, strict=True) if kind != "line")
        lines = sorted((width, column) for column, width in enumerate(self._widths) if self._kinds[column] == "line")
        for position, (width, column) in enumerate(lines):
            given = min(width, max(spare // (len(lines) - position), _MIN_LINE_WIDTH))
            self._table.columns[column].max_width = given
            spare -= given
        for column, width in enumerate(self._widths):
            if self._kinds[column] == "number":
                self._table.columns[column].min_width = width
        console.print(self._table, width=available, crop=False)

    @property
    def _frame_width(self) -> int:
        return _BORDER + _BORDERS * len(self._widths)

    def _add(self, kind: _Kind, heading: str) -> None:
        is_number = kind == "number"
        self._table.add_column(heading, justify="right" if is_number else "left", overflow="fold", no_wrap=is_number)
        self._kinds.append(kind)
        self._widths.append(_width(Text(heading)))


def _width(text: Text) -> int:
    return max((line.cell_len for line in text.split("\n")), default=0)
