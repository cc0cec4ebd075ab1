"""The choice of packed attention: where it runs and agrees, and what is said where it does not."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from packed_encoders import (
    ENCODERS,
    as_on_a_gpu,
    plain_disentangled,
    plain_varlen,
)
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from gliclass_spark.inference.kernels.fast_encoder import fast_bert, fast_encoder
from gliclass_spark.inference.kernels.packed_attention import (
    KernelError,
    packed_attention,
    packed_disentangled_attention,
)


def without_window(*arguments: Any) -> Tensor:
    """The attention of torch 2.10, which has no windows."""
    return plain_varlen(*arguments)


def that_ignores_the_window(*arguments: Any, **window: Any) -> Tensor:
    return plain_varlen(*arguments)


def without_position_to_content(*arguments: Any) -> Tensor:
    return plain_disentangled(*arguments[:6], None, arguments[7])


def that_does_not_compile(*arguments: Any) -> Tensor:
    raise KernelError("Triton 3.9.0: PTXASError: ptxas died")


class TestChoice:
    """Packed attention is used where it runs and agrees; the next best path is one line in the log."""

    def test_a_processor_has_none(self) -> None:
        assert packed_attention(torch.device("cpu"), torch.bfloat16) is None
        assert packed_disentangled_attention(torch.device("cpu"), torch.bfloat16) is None

    @pytest.mark.parametrize(
        ("capability", "dtype", "expected"),
        [
            ((9, 0), torch.bfloat16, True),
            ((8, 0), torch.bfloat16, True),
            ((9, 0), torch.float32, False),
            ((7, 5), torch.bfloat16, False),
        ],
    )
    def test_a_gpu_has_both_in_half_precision_from_ampere_on(
        self, capability: tuple[int, int], dtype: torch.dtype, expected: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        assert (packed_attention(torch.device("cuda"), dtype) is not None) == expected
        assert (packed_disentangled_attention(torch.device("cuda"), dtype) is not None) == expected

    @pytest.mark.parametrize(
        "varlen",
        [
            pytest.param(varlen_attn, id="torch's own, which has no kernel here"),
            pytest.param(without_window, id="one without windows"),
            pytest.param(that_ignores_the_window, id="one whose windows have another meaning"),
        ],
    )
    def test_one_that_fails_or_differs_is_not_used_and_the_log_says_so(
        self, varlen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        as_on_a_gpu(monkeypatch, varlen)
        with caplog.at_level(logging.WARNING):
            encode = fast_encoder(ENCODERS["modernbert"], "float32")
        assert encode is not None
        assert encode._varlen is None  # type: ignore[attr-defined]
        [record] = caplog.records
        assert record.getMessage().startswith("ModernBertModel runs more slowly, with padding: ")
        assert "\n" not in record.getMessage()

    def test_one_without_windows_serves_a_bert(self, monkeypatch: pytest.MonkeyPatch) -> None:
        as_on_a_gpu(monkeypatch, without_window)
        bert = fast_bert(ENCODERS["bert"], "float32")
        assert bert is not None
        assert bert._varlen is without_window

    @pytest.mark.parametrize(
        ("disentangled", "reason"),
        [
            pytest.param(that_does_not_compile, "fails in float32 (Triton 3.9.0: PTXASError: ptxas died)", id="fails"),
            pytest.param(without_position_to_content, "the states of the fast one differ by ", id="one without a term"),
        ],
    )
    def test_a_deberta_whose_kernel_fails_or_differs_is_computed_with_padding(
        self,
        disentangled: Callable[..., Any],
        reason: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        as_on_a_gpu(monkeypatch, disentangled=disentangled)
        assert_computed_with_padding(caplog, reason)

    def test_a_deberta_is_computed_with_padding_where_triton_is_missing(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setitem(sys.modules, "gliclass_spark.inference.kernels.disentangled_kernel", None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        attention = packed_disentangled_attention(torch.device("cuda"), torch.bfloat16)
        assert attention is not None
        as_on_a_gpu(monkeypatch, disentangled=attention)
        assert_computed_with_padding(caplog, "the fast one fails in float32 (Triton can't be imported: ")

    def test_an_error_that_is_not_the_kernels_is_not_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def with_a_fault(*arguments: Any) -> Tensor:
            raise ZeroDivisionError

        as_on_a_gpu(monkeypatch, disentangled=with_a_fault)
        with pytest.raises(ZeroDivisionError):
            fast_encoder(ENCODERS["deberta-v2"], "float32")


def assert_computed_with_padding(caplog: pytest.LogCaptureFixture, reason: str) -> None:
    with caplog.at_level(logging.WARNING):
        encode = fast_encoder(ENCODERS["deberta-v2"], "float32")
    assert encode is not None
    assert encode._varlen is None  # type: ignore[attr-defined]
    [record] = caplog.records
    assert record.getMessage().startswith("DebertaV2Model runs more slowly, with padding: ")
    assert reason in record.getMessage()
    assert "\n" not in record.getMessage()
