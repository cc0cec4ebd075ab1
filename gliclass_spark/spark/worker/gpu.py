"""Which GPU a task works on, and that no other process of the machine holds a model on it."""

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

# The GPUs that this process holds, and for each the open file whose lock says so.
_held: dict[str, int] = {}


def task_device(addresses: Sequence[str], visible: str | None) -> str:
    """torch's name ("cuda:0") of the first of the addresses that Spark gave to a task.

    `visible` is CUDA_VISIBLE_DEVICES: where it lists the address, torch counts along that list.
    Raises DeviceError for an address that torch has no number for.
    """
    address = addresses[0].strip()
    listed = [entry.strip() for entry in visible.split(",")] if visible else []
    if address in listed:
        return f"cuda:{listed.index(address)}"
    if address.isdecimal():
        return f"cuda:{address}"
    raise DeviceError(
        f"Spark gave this task the GPU {address!r}, which is neither a number nor listed in CUDA_VISIBLE_DEVICES "
        f"({visible!r}); let the discovery script print the GPUs' numbers"
    )


def claim(gpu: str, sharing: GpuSharing) -> None:
    """Hold a GPU for this process, until the process ends or calls `release`.

    Where another process holds it: with "refuse" raises DeviceError, with "warn" says so in the log,
    with "allow" does nothing. It knows of the processes that share a folder for temporary files.
    """
    if gpu in _held:
        return
    path = Path(tempfile.gettempdir(), f"gliclass-spark-{re.sub(r'[^A-Za-z0-9-]', '-', gpu)}.lock")
    try:
        lock = _open(path)
    except OSError as error:
        _object(
            sharing,
            f"whether another process uses GPU {gpu} can't be told: {path} can't be opened ({error.strerror}); "
            "remove that file",
        )
        return
    try:
        # The lock goes with the process, however that ends; the file stays, and says nothing.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        _object(
            sharing,
            f"GPU {gpu} already holds the model of another process; give each task a GPU of its own "
            "(spark.executor.resource.gpu.amount: 1, spark.task.resource.gpu.amount: 1), "
            "or let them share it (spark.gliclass.gpuSharing: allow)",
        )
        return
    _held[gpu] = lock


def release(gpu: str) -> None:
    """Let other processes have a GPU that this one may hold."""
    lock = _held.pop(gpu, None)
    if lock is not None:
        os.close(lock)


def _open(path: Path) -> int:
    # Reading is enough to lock a file. No link is followed, and no pipe waited for, that someone has put there.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        # Without O_CREAT: in a folder like /tmp Linux refuses that for another user's file.
        return os.open(path, flags)
    except FileNotFoundError:
        lock = os.open(path, flags | os.O_CREAT, 0o644)
        os.fchmod(lock, 0o644)  # whatever the umask: other users have to open it
        return lock


def _object(sharing: GpuSharing, problem: str) -> None:
    if sharing == "refuse":
        raise DeviceError(problem)
    if sharing == "warn":
        logger.warning(problem)
