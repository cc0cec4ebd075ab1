"""A command in a process group of its own, whose output is told line by line, and of which nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

_ENDS_S = 20


class ProcessGroup:
    """The command, started at once. `environment` comes on top of this process's own."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - a list, and no shell
            list(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **environment},
            start_new_session=True,
        )

    def wait(self, on_line: Callable[[str], None]) -> int:
        """Tell every line that it prints, and give its exit code: -N if the signal N ended it."""
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self._process.stdout:
            if line.strip():
                on_line(line.rstrip())
        return self._process.wait()

    def end(self) -> None:
        """Ask all of its processes to end, and kill those that don't within 20 s. One that has ended stays as it is."""
        if self._process.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDS_S)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
