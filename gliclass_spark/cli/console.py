"""The console that commands print to, and what they show while a step takes its time."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

# In a notebook rich would need ipywidgets, and a progress bar would print every frame: treat the cell as a file.
console = Console(force_jupyter=False, force_terminal=False if Console().is_jupyter else None)


@contextmanager
def step(description: str, announce: bool = True) -> Iterator[None]:
    """Show that a step is running: a spinner on a terminal, else one line, unless `announce` is false."""
    if console.is_terminal:
        with console.status(description):
            yield
        return
    if announce:
        console.print(description, highlight=False, soft_wrap=True)
        sys.stdout.flush()
    yield


def tolerate_encodings() -> None:
    """Print "?" for a character that the output's encoding lacks: all of a run's work is done by then. Bytes of the
    input that are not in its encoding become lone surrogates, which are the error of their text alone.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
