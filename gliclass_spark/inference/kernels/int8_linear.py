"""Linear layers in 8-bit integers, for processors that multiply them in hardware.

Weights have a scale for each output, activations one for each token (dynamic quantization; the scheme of LLM.int8(),
arXiv 2208.07339, section 2.1, without its outliers). A product of integers is exact, and no scale depends on another
token: so neither do the results.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gliclass_spark.inference.kernels.linear import concatenated_bias

_ONEDNN = torch.ops.onednn
_OPERATORS = ("qlinear_prepack", "qlinear_pointwise")
_LARGEST_WEIGHT = 127
_STEPS = 255  # between a token's smallest and largest activation
_MIDDLE = 128
# The scale of a token whose activations are all equal.
_TINY = torch.finfo(torch.float32).tiny


class Int8Linear:
    """Linear layers with the same input as one product of integers, (tokens, inputs) -> (tokens, outputs), float32.

    An activation is its token's smallest plus an integer times its token's scale: the sum of an output's weights, times
    the smallest activation, is added to the product.
    """

    def __init__(self, *linears: nn.Linear) -> None:
        weight = torch.cat([linear.weight for linear in linears]).float()
        self._scales = (weight.abs().amax(dim=1) / _LARGEST_WEIGHT).clamp_(min=_TINY)
        integers = (weight / self._scales[:, None]).round_().to(torch.int8)
        self._weight = _ONEDNN.qlinear_prepack(integers, None)
        self._sums = (integers.sum(dim=1) * self._scales)[None]
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        bias = concatenated_bias(linears)
        self._bias = torch.zeros(len(weight)) if bias is None else bias.float()

    def __call__(self, inputs: Tensor) -> Tensor:
        smallest, scales = _range(inputs)
        product = self._product(inputs, smallest, scales)
        return torch.addcmul(torch.addcmul(self._bias, self._sums, smallest), product, scales, out=product)

    def gelu(self, inputs: Tensor) -> Tensor:
        outputs = self(inputs)
        torch.ops.aten.gelu.out(outputs, out=outputs)
        return outputs

    def add(self, inputs: Tensor, residual: Tensor) -> Tensor:
        return self(inputs).add_(residual)

    def _product(self, inputs: Tensor, smallest: Tensor, scales: Tensor) -> Tensor:
        """Return the product of the integers, in units of the weights."""
        steps = (inputs - (smallest + _MIDDLE * scales)).mul_(scales.reciprocal()).round_()
        # To int8 and over its edge to unsigned integers, which oneDNN's fast product takes: torch converts to uint8
        # several times as slowly.
        integers = steps.to(torch.int8).add_(-_MIDDLE).view(torch.uint8)
        product: Any = _ONEDNN.qlinear_pointwise(
            *(integers, 1.0, 0, self._weight, self._scales, self._zeros, None),
            *(1.0, 0, torch.float32, "none", [], ""),
        )
        assert isinstance(product, Tensor)  # noqa: S101
        return product


def _range(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return each token's smallest activation and its scale, (tokens, 1) each."""
    smallest, largest = inputs.amin(dim=1, keepdim=True), inputs.amax(dim=1, keepdim=True)
    return smallest, (largest - smallest).mul_(1 / _STEPS).clamp_(min=_TINY)


def int8_is_available() -> bool:
    """Return whether this version of torch has the operators; they are not a public interface."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available) and all(hasattr(_ONEDNN, name) for name in _OPERATORS)
