"""8-bit weights: symmetric, one scale for each output channel; activations and KV cache stay in bfloat16.

Decoding few sequences takes as long as reading the weights, which are half as many bytes in int8. Products of more rows
are slower in torch's 8-bit kernel than in oneDNN's bfloat16 one (measured: 1.4 to 1.5 times as fast up to 4 rows, 0.6
times from 5 on), so those are computed with the same weights, dequantized once and packed. Each weight thus takes three
bytes instead of two: this mode gives speed for memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from asynclm.engine.torch.linear import Linear, make_linear

FEW_ROWS = 4
"""The most rows that torch's 8-bit kernel computes in one block."""

MakeLinear = Callable[[torch.Tensor, torch.Tensor | None], Linear]


def linear_maker(quantize: str | None, *, dtype: torch.dtype, device: torch.device) -> MakeLinear:
    """What makes a model's products.

    Args:
        quantize: one of `options.QUANTIZATIONS`, or None for weights as they are.
        dtype: of activations.
        device: where the model lives.

    Raises:
        ValueError: there is no such mode for this device or dtype.
    """
    if quantize is None:
        return make_linear
    if device.type != "cpu":
        raise ValueError(f"quantize is {quantize!r} and device {device.type}; allowed with it: device cpu")
    if dtype != torch.bfloat16:
        name = str(dtype).removeprefix("torch.")
        raise ValueError(f"quantize is {quantize!r} and dtype {name}; allowed with it: dtype bfloat16")
    return QuantizedLinear


class QuantizedLinear:
    """`x @ weight.T + bias` with an 8-bit weight, for bfloat16 on CPU; a `Linear`."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight, self._scales = quantized(weight)
        self._bias = bias
        self._many_rows = make_linear((self._weight.float() * self._scales[:, None].float()).to(weight.dtype), bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The product."""
        if len(x) > FEW_ROWS:
            return self._many_rows(x)
        product = torch._weight_int8pack_mm(x.contiguous(), self._weight, self._scales)
        return product if self._bias is None else product.add_(self._bias)

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """The product plus a residual."""
        return self._many_rows.plus(x, residual) if len(x) > FEW_ROWS else self(x).add_(residual)


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight of shape (outputs, inputs) as int8, and its scales of shape (outputs,) in the weight's dtype.

    `values * scales[:, None]` is the weight, to half a scale: the largest of a row's weights is 127 of its scales. A
    row of zeros has scale 1.
    """
    wide = weight.float()
    largest = wide.abs().amax(1)
    scales = torch.where(largest > 0, largest / 127, torch.ones_like(largest)).to(weight.dtype)
    # Rounded after the scale is, so that its own rounding is not added to that of the values.
    values = (wide / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return values, scales
