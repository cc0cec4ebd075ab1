"""Weights that a fast pass has copied are freed in an engine that owns its checkpoint, and the scores stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from reference_models import Reference
from torch import nn

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.device import native_int8
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.kernels import linear
from gliclass_spark.labels import LabelSet
from gliclass_spark.model import checkpoint

LABELS = LabelSet.of("sport", "machine learning", "web")
TEXTS = ["spark table", "deep river " * 20, "Zürich"]
HEADS: dict[str, dict[str, Any]] = {
    "uni-encoder": {},
    "segments": {"use_segment_embeddings": True},
    "bi-encoder": {"architecture_type": "bi-encoder", "pooling_strategy": "avg"},
    "fused": {"architecture_type": "bi-encoder-fused", "pooling_strategy": "avg"},
}
PRECISIONS = [
    "float32",
    "bfloat16",
    pytest.param("int8", marks=pytest.mark.skipif(not native_int8(torch.device("cpu")), reason="needs VNNI or AMX")),
]


def encoder_layers(engine: Engine) -> list[nn.Linear]:
    model = engine._runner._model  # type: ignore[attr-defined]
    return [layer for encoder in model.transformers for layer in encoder.modules() if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", ["deberta-v2", "modernbert"])
def test_scores_are_those_of_an_engine_that_keeps_its_weights(
    backbone: str, head: str, precision: Any, reference: Callable[..., Reference]
) -> None:
    folder = str(reference(backbone, **HEADS[head]).folder)
    owner = Engine.from_pretrained(folder, device="cpu", precision=precision)
    keeper = Engine(checkpoint.load(resolve_model(folder)), device="cpu", precision=precision)
    assert owner.precision == keeper.precision == precision
    assert all(layer.weight.is_meta for layer in encoder_layers(owner))
    assert not any(layer.weight.is_meta for layer in encoder_layers(keeper))
    np.testing.assert_array_equal(owner.scores(TEXTS, LABELS), keeper.scores(TEXTS, LABELS))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_embedded_model_keeps_no_copy(precision: Any) -> None:
    owner = Engine.from_pretrained("embedded", device="cpu", precision=precision)
    keeper = Engine(checkpoint.load(resolve_model("embedded")), device="cpu", precision=precision)
    assert all(layer.weight.is_meta for layer in encoder_layers(owner))
    np.testing.assert_array_equal(owner.scores(TEXTS, LABELS), keeper.scores(TEXTS, LABELS))


@pytest.mark.parametrize(("backbone", "head"), [("modernbert", {}), ("deberta-v2", {"encoder_layer_id": 1})])
def test_an_encoder_that_runs_by_its_own_pass_keeps_its_weights(
    backbone: str, head: dict[str, Any], reference: Callable[..., Reference], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(reference(backbone, **head).folder)
    expected = Engine(checkpoint.load(resolve_model(folder)), device="cpu", precision="float32").scores(TEXTS, LABELS)
    monkeypatch.setattr(linear.PackedLinear, "__call__", fails)
    owner = Engine.from_pretrained(folder, device="cpu", precision="float32")
    assert not any(layer.weight.is_meta for layer in encoder_layers(owner))
    np.testing.assert_allclose(owner.scores(TEXTS, LABELS), expected, atol=1e-5, rtol=0)


def test_the_embedded_model_keeps_its_weights_if_its_fast_pass_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Engine.from_pretrained("embedded", device="cpu", precision="float32").scores(TEXTS, LABELS)
    monkeypatch.setattr(linear.PackedLinear, "__call__", fails)
    owner = Engine.from_pretrained("embedded", device="cpu", precision="float32")
    np.testing.assert_allclose(owner.scores(TEXTS, LABELS), expected, atol=1e-5, rtol=0)


def fails(*_: object) -> torch.Tensor:
    raise RuntimeError("mkldnn::_linear_pointwise() expected at most 5 arguments")
