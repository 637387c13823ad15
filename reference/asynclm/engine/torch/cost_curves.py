"""What it costs to bring a KV cache back, as curves over the tokens in the context, fitted to measured samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Sample = tuple[int, float]
"""Tokens in the context, and milliseconds."""


@dataclass(frozen=True, slots=True)
class CostCurve:
    """Milliseconds as `base + linear * n + quadratic * n * n`; never falls with n, as no coefficient is negative.

    Raises:
        ValueError: a coefficient is negative or not finite.
    """

    base: float
    linear: float = 0.0
    quadratic: float = 0.0

    def __post_init__(self) -> None:
        for name in ("base", "linear", "quadratic"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; it must be a finite number, at least 0")

    def __call__(self, tokens: int) -> float:
        """Milliseconds for this many tokens."""
        return self.base + tokens * (self.linear + tokens * self.quadratic)

    def __str__(self) -> str:
        """For people: `2.1 ms + 0.45 ms/token + 8.1e-05 ms/token²`."""
        units = ((self.base, "ms"), (self.linear, "ms/token"), (self.quadratic, "ms/token²"))
        return " + ".join(f"{value:.2g} {unit}" for value, unit in units if value > 0) or "0 ms"

    @classmethod
    def fit(cls, samples: Sequence[Sample], *, degree: int) -> CostCurve:
        """The curve nearest to the samples in relative error, among those that never fall.

        A free least-squares fit of noisy times can bend downwards, and a policy would then prefer longer contexts. So
        every choice of terms is fitted, and of those without a negative coefficient the nearest is taken.

        Args:
            samples: at least one, each with a positive time.
            degree: 1 or 2, the highest power of n.

        Raises:
            ValueError: there are no samples, or a time is not positive.
        """
        if not samples or any(not (math.isfinite(ms) and ms > 0) for _, ms in samples):
            raise ValueError(f"samples are {list(samples)!r:.80}; at least one is needed, each with a positive time")
        tokens, times = np.array(samples, dtype=np.float64).T
        columns = np.stack([tokens**power for power in range(degree + 1)], axis=1) / times[:, None]
        nearest: tuple[float, list[float]] | None = None
        for chosen in _subsets(degree + 1):
            solved, *_ = np.linalg.lstsq(columns[:, chosen], np.ones(len(times)), rcond=None)
            if (solved < 0).any():
                continue
            coefficients = [0.0] * (degree + 1)
            for place, value in zip(chosen, solved, strict=True):
                coefficients[place] = float(value)
            error = float(np.square(columns @ coefficients - 1).sum())
            if nearest is None or error < nearest[0]:
                nearest = (error, coefficients)
        assert nearest is not None  # the base alone is a mean of positive numbers
        return cls(*nearest[1])


@dataclass(frozen=True, slots=True)
class CostCurves:
    """Both ways back (paper §5.4): `recompute` the context from its tokens, or `swap` its rows out and in again."""

    recompute: CostCurve
    swap: CostCurve

    @classmethod
    def fit(cls, *, recompute: Sequence[Sample], swap: Sequence[Sample]) -> CostCurves:
        """Recomputing grows with the square of the context, as attention does; swapping with its bytes.

        Raises:
            ValueError: as `CostCurve.fit`.
        """
        return cls(recompute=CostCurve.fit(recompute, degree=2), swap=CostCurve.fit(swap, degree=1))

    def to_json(self) -> dict[str, dict[str, float]]:
        """As JSON objects of coefficients."""
        return {
            name: {"base": curve.base, "linear": curve.linear, "quadratic": curve.quadratic}
            for name, curve in (("recompute", self.recompute), ("swap", self.swap))
        }

    @classmethod
    def from_json(cls, value: Any) -> CostCurves:
        """Reads `to_json`.

        Raises:
            ValueError: it has another form.
        """
        return cls(recompute=_read_curve(value, "recompute"), swap=_read_curve(value, "swap"))


def _subsets(count: int) -> list[list[int]]:
    return [list(chosen) for size in range(1, count + 1) for chosen in itertools.combinations(range(count), size)]


def _read_curve(value: Any, name: str) -> CostCurve:
    curve = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(curve, Mapping) or set(curve) != {"base", "linear", "quadratic"}:
        raise ValueError(f"{name}: it must be an object of base, linear and quadratic")
    for field, number in curve.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"{name}.{field} is {number!r:.40}; it must be a number")
    return CostCurve(**curve)
