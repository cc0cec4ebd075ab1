"""Where commands print: results on standard output; progress and notes on standard error."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console
from rich.progress import Progress, ProgressColumn

BROKEN_PIPE_EXIT_CODE = 141  # 128 + SIGPIPE, as a shell reports a program whose reader has gone


class _PipeConsole(Console):
    def on_broken_pipe(self) -> NoReturn:
        end_of_pipe()


# In a notebook rich would need ipywidgets, and a progress bar would print every frame: treat the cell as a file.
_FORCE_TERMINAL = False if Console().is_jupyter else None
console = _PipeConsole(force_jupyter=False, force_terminal=_FORCE_TERMINAL)
messages = _PipeConsole(stderr=True, force_jupyter=False, force_terminal=_FORCE_TERMINAL)


@contextmanager
def step(description: str, announce: bool = True) -> Iterator[None]:
    """Show that a step is running: a spinner on a terminal, else one line, unless `announce` is false."""
    if messages.is_terminal:
        with messages.status(description):
            yield
        return
    if announce:
        messages.print(description, highlight=False, soft_wrap=True)
        sys.stderr.flush()
    yield


def progress(*columns: ProgressColumn | str, disable: bool = False) -> Progress:
    """Return a progress bar that vanishes at its end. It shows nothing where standard error is no terminal."""
    return Progress(
        *columns, console=messages, transient=True, disable=disable or not messages.is_terminal, redirect_stdout=False
    )


def end_of_pipe() -> NoReturn:
    """Exit as a program that SIGPIPE ends. Without a message: whoever closed the pipe has seen enough."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())  # Python flushes standard output once more at its end
    raise SystemExit(BROKEN_PIPE_EXIT_CODE)


def tolerate_encodings() -> None:
    """Print "?" for a character that the output's encoding lacks: all of a run's work is done by then. Bytes of the
    input that are not in its encoding become lone surrogates, which are the error of their text alone.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
