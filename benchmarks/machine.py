"""The machine of a measurement: its description, and its peak matrix rate."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

_SIZE = 2048  # of the square matrices
_REPEATS = 3
_FEATURES = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "bf16")


def describe() -> dict[str, Any]:
    """Return the CPU, load, thread settings, versions and date."""
    capabilities = torch.cpu.get_capabilities()
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "capabilities": [name for name in _FEATURES if capabilities.get(name)],
        "load_average": os.getloadavg()[0],
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "gomp_spincount": os.environ.get("GOMP_SPINCOUNT"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def device() -> str:
    """Return the name of the device that a training uses by default: the GPU, or the CPU with its capabilities."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    machine = describe()
    return f"{machine['cpu']} with {', '.join(machine['capabilities'])}"


@torch.inference_mode()
def matrix_rate(dtype: torch.dtype) -> float:
    """Return the FLOP/s of torch's product of two large matrices, the best of a few."""
    left, right = (torch.randn(_SIZE, _SIZE).to(dtype) for _ in range(2))
    torch.matmul(left, right)
    best = float("inf")
    for _ in range(_REPEATS):
        started = time.perf_counter()
        torch.matmul(left, right)
        best = min(best, time.perf_counter() - started)
    return float(2 * _SIZE**3 / best)


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
