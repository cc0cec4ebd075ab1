"""Device and precision of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from gliclass_spark.errors import DeviceError

ModelPrecision = Literal["float32", "bfloat16", "int8"]
Precision = Literal["auto"] | ModelPrecision

# The precision of what is not computed in 8-bit integers: embeddings, norms, attention and the head.
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.float32}
# NVIDIA's GPUs that multiply matrices of bfloat16 in hardware: Ampere and later.
_CUDA_BFLOAT16 = (8, 0)
# The processor features that multiply matrices of bfloat16, or of 8-bit integers, in hardware, best first.
_CPU_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")
_CPU_INT8 = ("amx_int8", "avx512_vnni", "avx_vnni")

_NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",  # Linux
    "DefaultCPUAllocator: not enough memory",  # Windows
    "std::bad_alloc",
    "CUDA error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def choose_device(device: str | None) -> torch.device:
    """Return the named device, or for None a GPU if there is one. Raises DeviceError for a device that is missing.

    A GPU without a number is the current one of this thread. It gets its number: other threads have another one.
    """
    if device is None:
        return _numbered(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()  # "meta" exists everywhere, but holds no numbers
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f'device {device!r} can\'t be used here ({reason}); use "cpu", or leave it out') from None
    return _numbered(chosen)


def choose_precision(precision: Precision, device: torch.device) -> ModelPrecision:
    """Return the precision of a model on this device. Raises DeviceError for one that the device can't do.

    "auto" takes the first of bfloat16 and int8 that the hardware multiplies natively, or float32: where it does both,
    int8 is little faster than bfloat16, and less exact. Emulated bfloat16 is far slower than
    float32, on a processor with AVX2 alone a hundred times; and without these instructions oneDNN's products of 8-bit
    integers may overflow.
    """
    if precision == "auto":
        if native_bfloat16(device):
            return "bfloat16"
        return "int8" if native_int8(device) else "float32"
    if precision not in _DTYPES:
        raise DeviceError(f"precision {precision!r} is unknown; use one of auto, {', '.join(_DTYPES)}")
    if precision == "int8" and not native_int8(device):
        raise DeviceError(
            f'precision "int8" needs an x86 processor with VNNI or AMX, found {_hardware(device)}; '
            'use "auto", or leave it out'
        )
    return precision


def float_precision(device: torch.device) -> ModelPrecision:
    """Return what "auto" takes for a model that can't be computed in integers."""
    return "bfloat16" if native_bfloat16(device) else "float32"


def float_dtype(precision: ModelPrecision) -> torch.dtype:
    """Return the dtype of weights that are not in 8-bit integers."""
    return _DTYPES[precision]


def native_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        # torch.cuda.is_bf16_supported answers for the current GPU, which may be another one.
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= _CUDA_BFLOAT16
    return device.type == "cpu" and _cpu_feature(_CPU_BFLOAT16) is not None


def native_int8(device: torch.device) -> bool:
    """Return whether the device is a processor that multiplies matrices of 8-bit integers in hardware."""
    return device.type == "cpu" and _cpu_feature(_CPU_INT8) is not None


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of a forward pass means that the device, or the machine, is out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # On CPUs, and where a GPU's driver or library is out of memory, only the message of a RuntimeError shows it.
    return any(message in str(error) for message in _NO_MEMORY)


def describe(device: torch.device, precision: ModelPrecision) -> str:
    """Return one line for people: the device, the precision, and the hardware features that decide it."""
    if device.type == "cuda":
        native = "is" if native_bfloat16(device) else "is not"
        return f"{_hardware(device)}, {precision} (bfloat16 {native} native here)"
    features = {"bfloat16": _cpu_feature(_CPU_BFLOAT16), "int8": _cpu_feature(_CPU_INT8)}
    hardware = "; ".join(
        f"{name} is native here, by {feature}" if feature else f"{name} is not native here"
        for name, feature in features.items()
    )
    return f"{device.type}, {torch.get_num_threads()} threads, {precision} ({hardware})"


def _numbered(device: torch.device) -> torch.device:
    is_current = device.type == "cuda" and device.index is None
    return torch.device("cuda", torch.cuda.current_device()) if is_current else device


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = torch.cpu.get_capabilities().get("cpu_name") if device.type == "cpu" else None
    return str(name or device)


def _cpu_feature(features: Sequence[str]) -> str | None:
    """Return the first of these features that the processor has and torch uses."""
    # Nothing else in torch uses them: without oneDNN bfloat16 is emulated on every processor.
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    capabilities = torch.cpu.get_capabilities()
    return next((feature for feature in features if capabilities.get(feature)), None)
