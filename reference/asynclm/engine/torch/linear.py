"""Matrix products with weights laid out once for the machine they run on."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)

BATCH_HINT = 8
"""Rows for which packed weights are laid out. Measured for 1 to 256 rows: 8 was never slower than another hint."""


class Linear(Protocol):
    """`x @ weight.T + bias`, for `x` of shape (tokens, inputs)."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The product, of shape (tokens, outputs)."""
        ...

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """The product plus a residual of its shape."""
        ...


class DenseLinear:
    """A product with the weight as it is, for any device."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The product."""
        return F.linear(x, self._weight, self._bias)

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """The product plus a residual."""
        return F.linear(x, self._weight, self._bias) + residual


class PackedLinear:
    """A product with the weight in oneDNN's own layout, for CPUs.

    Three times as fast for one to eight rows as the plain layout, which oneDNN reorders at every call; and a row's
    result does not depend on the rows beside it.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), BATCH_HINT)
        self._bias = bias
        self._product = torch.ops.mkldnn._linear_pointwise.default
        self._product_plus = torch.ops.mkldnn._linear_pointwise.binary

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The product."""
        result: torch.Tensor = self._product(x, self._weight, self._bias, "none", [], "")
        return result

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """The product plus a residual."""
        result: torch.Tensor = self._product_plus(x, residual, self._weight, self._bias, "add")
        return result


def make_linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
    """The fastest product for a weight of shape (outputs, inputs) on its device."""
    packs = weight.dtype != torch.float16 or float16_is_fast()  # oneDNN refuses it elsewhere
    if weight.device.type == "cpu" and packing_supported() and packs:
        return PackedLinear(weight, bias)
    return DenseLinear(weight, bias)


def packing_supported() -> bool:
    """Whether this build of torch has oneDNN's packed products, which its compiler uses but does not document."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def float16_is_fast() -> bool:
    """Whether this CPU computes float16 products natively."""
    return packing_supported() and bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


def bfloat16_is_fast() -> bool:
    """Whether this CPU computes bfloat16 products natively; elsewhere float32 is faster."""
    return packing_supported() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
