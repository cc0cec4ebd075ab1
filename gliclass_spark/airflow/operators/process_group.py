"""Process groups: a command with everything that it starts, ended together."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from gliclass_spark.errors import StackError

_POLL_S = 0.2
_DESCENDANTS_GRACE_S = 3


class ProcessGroup:
    """A command in a session of its own, started at once. Leaving the `with` block ends all of its processes.

    name: for messages. env: the whole environment, None for this process's. log: the file that the output is
    appended to; without one it is a pipe, for `stream`. user: the system user to run as, None for the current one.
    stop: the signal that ends the command in good order.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        user: str | None = None,
        stop: signal.Signals = signal.SIGTERM,
        grace_s: float = 20,
    ) -> None:
        self.name = name
        self.log = log
        self._stop = stop
        self._grace_s = grace_s
        self._ended = False
        output = log.open("ab") if log is not None else None
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a list, and no shell
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output or subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                user=user,
                group=user,
                extra_groups=[] if user else None,
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """Return the command's exit code, -N if signal N ended it; None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait for the command to end, and return its exit code."""
        return self._process.wait()

    def stream(self, on_line: Callable[[str], None]) -> int:
        """Call `on_line` with each line of output that is not blank, and return the command's exit code."""
        assert self._process.stdout is not None, "stream needs a group without a log"  # noqa: S101
        for line in self._process.stdout:
            if text := line.decode("utf-8", errors="replace").rstrip():
                on_line(text)
        return self._process.wait()

    def wait_until_ready(self, problem: Callable[[], str | None], timeout_s: float) -> None:
        """Wait until `problem` returns None instead of why the command is not ready.

        Raises StackError if the command ends before, or is not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while (reason := problem()) is not None:
            if (code := self.poll()) is not None:
                raise StackError(f"{self.name} ended with {code}: {self._last_line()}; see {self.log}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} is not ready after {timeout_s:g} s: {reason}; see {self.log}")
            time.sleep(_POLL_S)

    def pids(self) -> list[int]:
        """Return the ids of the running processes: those of the session, and their descendants."""
        return sorted(process.pid for process in self._processes())

    def end(self) -> None:
        """Stop the command, then what is left of the group; kill what does not stop within the grace period."""
        if self._ended:
            return
        processes = self._processes()
        if self._process.poll() is None:
            self._process.send_signal(self._stop)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self._grace_s)
        processes |= self._processes()
        _signal(processes, signal.SIGTERM)
        _, running = psutil.wait_procs(processes, timeout=_DESCENDANTS_GRACE_S)
        _signal(running, signal.SIGKILL)
        self._process.wait()
        self._ended = True

    def kill(self) -> None:
        """Kill all processes of the group at once."""
        if self._ended:
            return
        _signal(self._processes(), signal.SIGKILL)
        self._process.wait()
        self._ended = True

    def _processes(self) -> set[psutil.Process]:
        # Descendants may be in sessions of their own, as torchrun's workers are.
        processes = set()
        for pid in psutil.pids():
            if _session(pid) == self.pid:
                with suppress(psutil.Error):
                    process = psutil.Process(pid)
                    processes |= {process, *process.children(recursive=True)}
        return processes

    def _last_line(self) -> str:
        log = self.log.read_text(encoding="utf-8", errors="replace") if self.log is not None else ""
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "no output"


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # it has ended, or belongs to another user
        return None


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):  # it has ended meanwhile
            process.send_signal(number)
