"""The machine of a measurement: its description, and its peak matrix rate."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from gliclass_spark.inference.kernels.linear import ConcatenatedLinear, PackedLinear, onednn_packs

_SIZES = {"cpu": 2048, "cuda": 8192}  # of the square matrices
_REPEATS = 3
_FEATURES = ("avx2", "avx_vnni", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "bf16")


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
def matrix_rate(dtype: torch.dtype, device: torch.device | None = None) -> float:
    """Return the FLOP/s of the device's product of two large matrices, the best of a few.

    On processors the better of torch's own product and of oneDNN's, which the engine uses, too.
    """
    device = device or torch.device("cpu")
    size = _SIZES.get(device.type, _SIZES["cpu"])
    left = torch.randn(size, size, device=device).to(dtype)
    layer = nn.Linear(size, size, bias=False, device=device, dtype=dtype)
    products = [ConcatenatedLinear(layer)]
    if onednn_packs(device, dtype):
        products.append(PackedLinear(layer))
    return max(2 * size**3 / _seconds(product, left) for product in products)


def _seconds(product: Callable[[Tensor], Tensor], left: Tensor) -> float:
    product(left)
    best = float("inf")
    for _ in range(_REPEATS):
        synchronize(left.device)
        started = time.perf_counter()
        product(left)
        synchronize(left.device)
        best = min(best, time.perf_counter() - started)
    return best


@dataclass
class GpuPeak:
    """The peak of a GPU's memory within a block, in MiB beyond what was allocated before; 0 on a processor."""

    mib: float = 0.0


@contextmanager
def gpu_peak(device: torch.device) -> Iterator[GpuPeak]:
    """Measure the block's peak of GPU memory."""
    peak = GpuPeak()
    if device.type != "cuda":
        yield peak
        return
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    yield peak
    peak.mib = (torch.cuda.max_memory_allocated(device) - before) / 2**20


def synchronize(device: torch.device) -> None:
    """Wait for a GPU; return at once on a processor."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
