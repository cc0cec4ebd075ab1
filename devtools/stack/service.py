"""A server of the stack: a process with a log, waited for until it answers, of which nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gliclass_spark.errors import StackError

_STARTS_S = 240
_STOPS_S = 20


@dataclass(frozen=True)
class Service:
    """What is started: in `cwd`, as the system's user `user` (None: as whoever starts it).

    stop: the signal that ends it in good order.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    user: str | None = None
    stop: signal.Signals = signal.SIGTERM


@contextmanager
def started(service: Service, problem: Callable[[], str | None]) -> Iterator[subprocess.Popen[bytes]]:
    """The service, once `problem` finds none any more, until the block ends.

    Raises StackError, with the end of the log, if it ends by itself before, or takes longer than four minutes.
    """
    with service.log.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - a list, and no shell
            list(service.command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(service.env),
            user=service.user,
            group=service.user,
            extra_groups=[] if service.user else None,
            start_new_session=True,
        )
    try:
        _wait(service, process, problem)
        yield process
    finally:
        _end(process, service.stop)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def _wait(service: Service, process: subprocess.Popen[bytes], problem: Callable[[], str | None]) -> None:
    until = time.monotonic() + _STARTS_S
    while (found := problem()) is not None:
        if process.poll() is not None:
            raise StackError(
                f"{service.name} ended with {process.returncode}: {_last_line(service.log)}; see {service.log}"
            )
        if time.monotonic() > until:
            raise StackError(f"{service.name} does not answer after {_STARTS_S} s: {found}; see {service.log}")
        time.sleep(0.5)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOPS_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
