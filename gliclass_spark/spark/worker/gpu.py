"""GPU of a task: its device in torch, and a lock that keeps other processes' models off it."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gliclass_spark.errors import DeviceError

logger = logging.getLogger(__name__)

GpuSharing = Literal["refuse", "warn", "allow"]

# The file descriptor of the lock on each GPU that this process has claimed.
_held: dict[str, int] = {}


def task_device(addresses: Sequence[str], visible: str | None) -> str:
    """Return torch's name ("cuda:0") for the first GPU address that Spark assigned to a task.

    `visible` is CUDA_VISIBLE_DEVICES: torch numbers the GPUs by their position in that list. Raises DeviceError if the
    address is neither in the list nor a number.
    """
    address = addresses[0].strip()
    visible_addresses = [entry.strip() for entry in visible.split(",")] if visible else []
    if address in visible_addresses:
        return f"cuda:{visible_addresses.index(address)}"
    if address.isdecimal():
        return f"cuda:{address}"
    raise DeviceError(
        f"Spark assigned the GPU {address!r} to this task, which is neither a number nor listed in "
        f"CUDA_VISIBLE_DEVICES ({visible!r}); let the discovery script print the GPUs' numbers"
    )


def claim(gpu: str, sharing: GpuSharing) -> None:
    """Claim a GPU for this process until it ends or calls `release`.

    If another process has claimed it: "refuse" raises DeviceError, "warn" logs a warning, "allow" does nothing. Sees
    only processes with the same folder for temporary files.
    """
    if gpu in _held:
        return
    path = Path(tempfile.gettempdir(), f"gliclass-spark-{re.sub(r'[^A-Za-z0-9-]', '-', gpu)}.lock")
    try:
        lock = _open(path)
    except OSError as error:
        _report(
            sharing,
            f"can't check whether another process uses GPU {gpu}: {path} can't be opened ({error.strerror}); "
            "remove that file",
        )
        return
    try:
        # The kernel releases the lock when the process ends, even if it is killed; the file stays.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        _report(
            sharing,
            f"GPU {gpu} already holds the model of another process; give each task a GPU of its own "
            "(spark.executor.resource.gpu.amount: 1, spark.task.resource.gpu.amount: 1), "
            "or let them share it (spark.gliclass.gpuSharing: allow)",
        )
        return
    _held[gpu] = lock


def release(gpu: str) -> None:
    """Release this process's claim to a GPU, if it has one."""
    lock = _held.pop(gpu, None)
    if lock is not None:
        os.close(lock)


def _open(path: Path) -> int:
    # Opening it read-only is enough for a lock. Never follow a link, nor block on a pipe, that another user put there.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        # First without O_CREAT: in a sticky folder like /tmp, Linux refuses it for another user's file.
        return os.open(path, flags)
    except FileNotFoundError:
        lock = os.open(path, flags | os.O_CREAT, 0o644)
        os.fchmod(lock, 0o644)  # despite the umask, so that other users can open it
        return lock


def _report(sharing: GpuSharing, problem: str) -> None:
    if sharing == "refuse":
        raise DeviceError(problem)
    if sharing == "warn":
        logger.warning(problem)
