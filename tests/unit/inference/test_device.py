"""A missing device or precision is refused with a fix; "auto" takes bfloat16 only where it is native."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from gliclass_spark.errors import DeviceError
from gliclass_spark.inference import device as device_module
from gliclass_spark.inference.device import (
    choose_device,
    choose_precision,
    describe,
    is_out_of_memory,
    native_bfloat16,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["tpu", "", "cuda:99", "cpu:x", "xla", "meta", "gpu", "cuda:-1"])
def test_a_missing_device_is_refused_with_its_name_and_a_fix(name: str) -> None:
    with pytest.raises(DeviceError) as refused:
        choose_device(name)
    message = str(refused.value)
    assert repr(name) in message
    assert 'use "cpu"' in message
    assert "\n" not in message


def test_the_named_device_is_taken() -> None:
    assert choose_device("cpu") == CPU


def test_by_default_a_gpu_is_taken_if_there_is_one() -> None:
    assert choose_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_an_unknown_precision_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(DeviceError) as refused:
        choose_precision("float16", CPU)  # type: ignore[arg-type]
    assert str(refused.value) == "precision 'float16' is unknown; use one of auto, float32, bfloat16"


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_named_precision_is_taken_native_or_not(precision: str, dtype: torch.dtype) -> None:
    assert choose_precision(precision, CPU) is dtype  # type: ignore[arg-type]


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_follows_the_hardware(native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "native_bfloat16", lambda device: native)
    assert choose_precision("auto", CPU) is dtype


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="needs the flags of an x86 processor"
)
def test_bfloat16_is_native_exactly_if_the_processors_flags_say_so() -> None:
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    assert native_bfloat16(CPU) == bool(flags & {"amx_bf16", "avx512_bf16"})


def test_the_description_names_device_threads_precision_and_reason() -> None:
    description = describe(CPU, torch.float32)
    assert description.startswith(f"cpu, {torch.get_num_threads()} threads, float32 (")
    assert ("bfloat16 is native here" in description) == native_bfloat16(CPU)


def test_torchs_error_on_a_processor_out_of_memory_is_recognized() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**47)  # more than any address space holds
    assert is_out_of_memory(refused.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("memory"), False),
    ],
)
def test_other_errors_are_not_taken_for_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
