"""Device and precision of a model."""

from __future__ import annotations

from typing import Literal

import torch

from gliclass_spark.errors import DeviceError

Precision = Literal["auto", "float32", "bfloat16"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# The processor features that multiply bfloat16 matrices in hardware, best first.
_CPU_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")

_NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",  # Linux
    "DefaultCPUAllocator: not enough memory",  # Windows
    "std::bad_alloc",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def choose_device(device: str | None) -> torch.device:
    """Return the named device, or for None a GPU if there is one. Raises DeviceError for a device that is missing."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()  # "meta" exists everywhere, but holds no numbers
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f'device {device!r} can\'t be used here ({reason}); use "cpu", or leave it out') from None
    return chosen


def choose_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype of a precision; for "auto", bfloat16 exactly where the hardware multiplies it natively.

    Emulated bfloat16 is far slower than float32: on a processor with AVX2 alone, a hundred times.
    """
    if precision == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    if precision not in _DTYPES:
        raise DeviceError(f"precision {precision!r} is unknown; use one of auto, {', '.join(_DTYPES)}")
    return _DTYPES[precision]


def native_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _cpu_feature() is not None


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of a forward pass means that the device, or the machine, is out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # On CPUs, and where a GPU's driver or library is out of memory, only the message of a RuntimeError shows it.
    return any(message in str(error) for message in _NO_MEMORY)


def describe(device: torch.device, dtype: torch.dtype) -> str:
    """Return one line for people: the device, the precision, and the hardware feature that decides it."""
    name = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {name}"
    feature = _cpu_feature()
    hardware = f"bfloat16 is native here, by {feature}" if feature else "bfloat16 is not native here"
    return f"{device.type}, {torch.get_num_threads()} threads, {name} ({hardware})"


def _cpu_feature() -> str | None:
    # Nothing else in torch uses these features: without oneDNN bfloat16 is emulated on every processor.
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    capabilities = torch.cpu.get_capabilities()
    return next((feature for feature in _CPU_BFLOAT16 if capabilities.get(feature)), None)
