"""The engine in 8-bit integers: near float32, or the next best precision with one line in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch
from reference_cells import BACKBONES

from gliclass_spark.errors import DeviceError
from gliclass_spark.inference import device as device_module
from gliclass_spark.inference.device import float_precision, native_int8
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.kernels import int8_linear, linear
from gliclass_spark.labels import LabelSet

CPU = torch.device("cpu")
LABELS = LabelSet.of("sport", "machine learning", "web")
TEXTS = ["spark table", "deep river " * 20, "Zürich", "a goal in the last minute", "gradient descent"]

needs_int8 = pytest.mark.skipif(not native_int8(CPU), reason="needs a processor with VNNI or AMX")


def embedded(precision: str) -> Engine:
    return Engine.from_pretrained("embedded", device="cpu", precision=precision)  # type: ignore[arg-type]


@needs_int8
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_scores_of_each_backbone_are_near_those_in_float32(backbone: str, engine: Callable[..., Engine]) -> None:
    exact, integers = (engine(backbone, precision=precision) for precision in ("float32", "int8"))
    assert integers.precision == "int8"
    difference = np.abs(integers.scores(TEXTS, LABELS) - exact.scores(TEXTS, LABELS))
    assert 0 < difference.max() < 0.1


@needs_int8
def test_the_embedded_models_scores_are_near_those_in_float32() -> None:
    difference = np.abs(embedded("int8").scores(TEXTS, LABELS) - embedded("float32").scores(TEXTS, LABELS))
    assert 0 < difference.max() < 0.1


@needs_int8
@pytest.mark.parametrize(("precision", "level"), [("int8", "WARNING"), ("auto", "INFO")])
def test_a_model_without_a_pass_in_integers_runs_in_another_precision_and_the_log_says_so_once(
    precision: str,
    level: str,
    engine: Callable[..., Engine],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_vnni": True, "architecture": "x86_64"})
    with caplog.at_level(logging.INFO):
        loaded = engine("bert", precision=precision, encoder_layer_id=0)
    [record] = [record for record in caplog.records if "instead of int8" in record.getMessage()]
    assert loaded.precision == "float32"
    assert record.levelname == level
    assert "\n" not in record.getMessage()


@needs_int8
def test_without_the_private_operators_another_precision_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(int8_linear, "_OPERATORS", ("renamed",))
    loaded = embedded("int8")
    assert loaded.precision == float_precision(CPU)
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage().startswith(
        f"{loaded.precision} is used instead of int8: torch {torch.__version__} lacks"
    )


def wrong(*args: object) -> torch.Tensor:
    """A product whose operator has changed its meaning."""
    return linear.ConcatenatedLinear.__call__(*args) + 1  # type: ignore[arg-type]


def refused(*args: object) -> torch.Tensor:
    raise RuntimeError("mkldnn::_linear_pointwise() expected at most 5 arguments\nand more lines")


@pytest.mark.skipif(not linear.onednn_packs(CPU, torch.float32), reason="needs oneDNN's private operators")
@pytest.mark.parametrize("changed", [wrong, refused])
def test_operators_that_have_changed_are_not_used_and_the_scores_stay(
    changed: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = embedded("float32").scores(TEXTS, LABELS)
    monkeypatch.setattr(linear.PackedLinear, "__init__", linear.ConcatenatedLinear.__init__)
    monkeypatch.setattr(linear.PackedLinear, "__call__", changed)
    with caplog.at_level(logging.WARNING):
        after = embedded("float32").scores(TEXTS, LABELS)
    np.testing.assert_allclose(after, before, atol=1e-5, rtol=0)
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage().startswith("BertWeights runs slowly, by its plain forward pass: ")
    assert "\n" not in record.getMessage()


@needs_int8
def test_integers_that_are_not_exact_enough_are_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(int8_linear, "_STEPS", 3)
    with caplog.at_level(logging.WARNING):
        assert embedded("int8").precision == float_precision(CPU)
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "instead of int8: BertWeights: the states of the fast one differ by" in record.getMessage()


def test_a_device_without_integers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "_CPU_INT8", ())
    with pytest.raises(DeviceError, match='precision "int8" needs an x86 processor with VNNI or AMX'):
        embedded("int8")
