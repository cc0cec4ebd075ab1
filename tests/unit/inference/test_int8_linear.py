"""Linear layers in 8-bit integers: close to float32, and exactly the same for a token in any company."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from gliclass_spark.inference.device import native_int8
from gliclass_spark.inference.kernels.int8_linear import Int8Linear, int8_is_available

pytestmark = [
    pytest.mark.skipif(not native_int8(torch.device("cpu")), reason="needs a processor with VNNI or AMX"),
    pytest.mark.skipif(not int8_is_available(), reason="needs oneDNN's private operators"),
]

INPUTS = 48


@pytest.fixture(scope="module", autouse=True)
def inference_mode() -> object:
    with torch.inference_mode():
        yield


def linears(*outputs: int, bias: bool = True) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(INPUTS, count, bias=bias) for count in outputs]


def expected(layers: list[nn.Linear], inputs: Tensor) -> Tensor:
    return torch.cat([layer(inputs) for layer in layers], dim=1)


def relative_error(values: Tensor, exact: Tensor) -> float:
    return float((values - exact).norm() / exact.norm())


@pytest.mark.parametrize("tokens", [1, 2, 31, 200])
@pytest.mark.parametrize("bias", [True, False])
def test_the_outputs_of_several_layers_are_those_of_float32_within_a_percent(tokens: int, bias: bool) -> None:
    layers = linears(64, 8, 40, bias=bias)
    inputs = torch.randn(tokens, INPUTS) * torch.logspace(-3, 3, tokens)[:, None]
    exact = expected(layers, inputs)
    linear = Int8Linear(*layers)
    scale = exact.norm(dim=1, keepdim=True)  # each token counts alike
    residual = torch.randn(tokens, 112)
    assert relative_error(linear(inputs) / scale, exact / scale) < 0.01
    assert relative_error((linear.add(inputs, residual) - residual) / scale, exact / scale) < 0.01
    assert relative_error(linear.gelu(inputs), functional.gelu(exact)) < 0.01


def test_integers_are_multiplied_exactly() -> None:
    [layer] = linears(32)
    layer.weight.copy_(torch.randint(-127, 128, (32, INPUTS)).float())
    layer.weight[:, 0] = 127
    inputs = torch.randint(0, 256, (20, INPUTS)).float()
    inputs[:, :2] = torch.tensor([0.0, 255.0])
    exact = layer(inputs.double().float())
    torch.testing.assert_close(Int8Linear(layer)(inputs), exact, rtol=1e-6, atol=0.5)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 80), st.data())
def test_a_token_has_bit_for_bit_its_outputs_alone(seed: int, tokens: int, data: st.DataObject) -> None:
    linear = Int8Linear(*linears(64, 32))
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(tokens, INPUTS, generator=generator)
    inputs[torch.rand(tokens, generator=generator) < 0.2] *= 1e4
    residual = torch.randn(tokens, 96, generator=generator)
    token = data.draw(st.integers(0, tokens - 1))
    alone = inputs[token : token + 1]
    assert torch.equal(linear(inputs)[token], linear(alone)[0])
    assert torch.equal(linear.gelu(inputs)[token], linear.gelu(alone)[0])
    assert torch.equal(linear.add(inputs, residual)[token], linear.add(alone, residual[token : token + 1])[0])


@pytest.mark.parametrize("value", [0.0, 1.0, -3e4, 1e-30, 1e30])
def test_a_token_whose_activations_are_equal_has_the_outputs_of_float32(value: float) -> None:
    layers = linears(64)
    inputs = torch.full((2, INPUTS), value)
    exact = expected(layers, inputs)
    tolerance = 1e-6 + 0.01 * float(exact.abs().max())
    torch.testing.assert_close(Int8Linear(*layers)(inputs), exact, rtol=0.05, atol=tolerance)


def test_a_token_that_is_no_number_stays_none_and_changes_no_other() -> None:
    linear = Int8Linear(*linears(64))
    inputs = torch.randn(3, INPUTS)
    before = linear(inputs)
    inputs[1, 5] = torch.nan
    outputs = linear(inputs)
    assert outputs[1].isnan().all()
    assert torch.equal(outputs[[0, 2]], before[[0, 2]])


def test_a_layer_of_zeros_returns_its_bias() -> None:
    [layer] = linears(16)
    layer.weight.zero_()
    torch.testing.assert_close(Int8Linear(layer)(torch.randn(4, INPUTS)), layer.bias.expand(4, -1))
