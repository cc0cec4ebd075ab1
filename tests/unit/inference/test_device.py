"""A missing device or precision is refused with a fix; "auto" takes what the hardware multiplies natively."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from gliclass_spark.errors import DeviceError
from gliclass_spark.inference.device import (
    Precision,
    choose_device,
    choose_precision,
    describe,
    is_out_of_memory,
    native_bfloat16,
    native_int8,
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


@pytest.mark.parametrize("name", [None, "cuda"])
def test_a_gpu_without_a_number_is_the_threads_current_one(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is another one in the thread that gives the GPU its work."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: torch.tensor(0.0))
    assert choose_device(name) == torch.device("cuda", 1)


def test_an_unknown_precision_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(DeviceError) as refused:
        choose_precision("float16", CPU)  # type: ignore[arg-type]
    assert str(refused.value) == "precision 'float16' is unknown; use one of auto, float32, bfloat16, int8"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_named_precision_is_taken_native_or_not(precision: Precision) -> None:
    assert choose_precision(precision, CPU) == precision


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({}, "float32"),
        ({"avx512_vnni": True}, "int8"),
        ({"avx_vnni": True}, "int8"),
        ({"avx512_vnni": True, "avx512_bf16": True}, "bfloat16"),
        ({"amx_int8": True, "amx_bf16": True, "avx512_vnni": True}, "bfloat16"),
    ],
)
def test_auto_follows_the_hardware(features: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert choose_precision("auto", CPU) == expected


def test_int8_is_refused_where_the_hardware_lacks_it_with_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "cpu_name": "Old Processor"})
    with pytest.raises(DeviceError) as refused:
        choose_precision("int8", CPU)
    message = (
        'precision "int8" needs an x86 processor with VNNI or AMX, found Old Processor; use "auto", or leave it out'
    )
    assert str(refused.value) == message


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="needs the flags of an x86 processor"
)
def test_a_precision_is_native_exactly_if_the_processors_flags_say_so() -> None:
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    assert native_bfloat16(CPU) == bool(flags & {"amx_bf16", "avx512_bf16"})
    assert native_int8(CPU) == bool(flags & {"amx_int8", "avx512_vnni", "avx_vnni"})


def test_the_description_names_device_threads_precision_and_reason() -> None:
    description = describe(CPU, "float32")
    assert description.startswith(f"cpu, {torch.get_num_threads()} threads, float32 (")
    assert ("bfloat16 is native here" in description) == native_bfloat16(CPU)
    assert ("int8 is native here" in description) == native_int8(CPU)


@pytest.mark.parametrize(
    ("capability", "native", "precision"),
    [((9, 0), "is", "bfloat16"), ((8, 0), "is", "bfloat16"), ((7, 5), "is not", "float32")],
)
def test_a_gpu_computes_in_bfloat16_where_that_is_native_and_its_description_says_why(
    capability: tuple[int, int], native: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the GPU itself can do, not the current one."""
    gpu = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", {gpu: capability}.__getitem__)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    chosen = choose_precision("auto", gpu)
    assert chosen == precision
    assert describe(gpu, chosen) == f"Some GPU, {precision} (bfloat16 {native} native here)"


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
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("memory"), False),
    ],
)
def test_other_errors_are_not_taken_for_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
