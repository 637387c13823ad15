"""Compiled kernels beside the same arithmetic in torch, in both dtypes, on one thread and on several."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from asynclm.engine.torch import kernels, operations, threads
from asynclm.engine.torch.operations import Buffer, DecodeAttention, RmsNorm, Rotation, causal_softmax, gate, stored

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
"""The last is not compiled: torch computes it."""

ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 2**-8, torch.float16: 2**-9}


def random(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(math.prod(shape))
    return (torch.randn(shape, generator=generator) * scale).to(dtype)


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    rounding = ROUNDING[got.dtype]
    torch.testing.assert_close(got.double(), expected, rtol=2 * rounding, atol=2 * rounding)


@pytest.fixture(params=["shared", "one thread"])
def sharing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With work shared however little it is, or never."""
    limit = 0 if request.param == "shared" else 1 << 60
    monkeypatch.setattr(operations, "GATES_TO_SHARE", limit)
    monkeypatch.setattr(operations, "KEYS_TO_SHARE", limit)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [5, 64, 576])
def test_norm(dtype: torch.dtype, size: int) -> None:
    x, weight = random(7, size, dtype=dtype, scale=3.0), random(size, dtype=dtype)
    out = Buffer(torch.full_like(x, torch.nan))
    RmsNorm(weight, 1e-3)(x, out)
    wide = x.double()
    close(out.tensor, wide * (wide.square().mean(-1, keepdim=True) + 1e-3).rsqrt() * weight.double())


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotation_turns_the_first_heads_only(dtype: torch.dtype) -> None:
    positions = torch.tensor([0.0, 1.0, 700.0])
    frequencies = 100.0 ** -(torch.arange(4) / 4)
    heads = random(3, 5, 8, dtype=dtype)
    before = heads.double()
    Rotation(positions, frequencies, dtype)(Buffer(heads), 4)
    angles = (positions[:, None] * frequencies).double()[:, None]
    a, b = before[:, :4].chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    close(heads[:, :4], torch.cat((a * cos - b * sin, b * cos + a * sin), -1))
    assert torch.equal(heads[:, 4].double(), before[:, 4])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("sharing")
def test_gate(dtype: torch.dtype) -> None:
    gate_up = random(9, 2 * 100, dtype=dtype, scale=20.0)
    out = Buffer(gate_up.new_empty(9, 100))
    gate(gate_up, out)
    gates, ups = gate_up.double().chunk(2, -1)
    close(out.tensor, gates / (1 + (-gates).exp()) * ups)


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.usefixtures("sharing")
def test_attention_over_slots(dtype: torch.dtype) -> None:
    heads, kv_heads, size, tokens = 6, 2, 16, 70
    slots, starts = [4, 0, 2], [0, 69, 31]
    cache = random(2, 5, kv_heads, tokens, size, dtype=dtype)
    expected_cache = cache.clone()
    qkv = random(4, heads + 2 * kv_heads, size, dtype=dtype, scale=2.0)  # the last row is somebody else's
    out = torch.zeros((3, heads * size), dtype=dtype)
    DecodeAttention(slots, starts, heads, kv_heads, stored(out))(stored(qkv), stored(cache))
    for row, (slot, start) in enumerate(zip(slots, starts, strict=True)):
        expected_cache[:, slot, :, start] = qkv[row, heads:].view(2, kv_heads, size)
        keys, values = (part.double().repeat_interleave(3, 0) for part in expected_cache[:, slot, :, : start + 1])
        scores = (qkv[row, :heads].double()[:, None] @ keys.transpose(1, 2)) / size**0.5
        close(out[row].view(heads, 1, size), scores.softmax(-1) @ values)
    assert torch.equal(cache, expected_cache)


@pytest.mark.usefixtures("sharing")
def test_a_rows_result_does_not_depend_on_the_others() -> None:
    cache = random(2, 3, 2, 40, 16, dtype=torch.bfloat16)
    qkv = random(3, 8, 16, dtype=torch.bfloat16)
    together = torch.empty((3, 4 * 16), dtype=torch.bfloat16)
    DecodeAttention([0, 1, 2], [39, 7, 20], 4, 2, stored(together))(stored(qkv), stored(cache))
    for row, start in enumerate([39, 7, 20]):
        alone = torch.empty((1, 4 * 16), dtype=torch.bfloat16)
        own = qkv[row : row + 1].contiguous()
        DecodeAttention([row], [start], 4, 2, stored(alone))(stored(own), stored(cache))
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_what_is_no_finite_number_stays_so(dtype: torch.dtype, value: float) -> None:
    x = torch.ones((2, 8), dtype=dtype)
    x[1, 3] = value
    out = Buffer(torch.empty_like(x))
    RmsNorm(torch.ones(8, dtype=dtype), 1e-5)(x, out)
    assert out.tensor[0].isfinite().all()
    assert not out.tensor[1].isfinite().all()
    halves = Buffer(x.new_empty(2, 4))
    gate(x, halves)
    assert halves.tensor.isfinite().all(-1).tolist() == [True, False]
    cache = torch.ones((2, 2, 1, 4, 8), dtype=dtype)
    cache[0, 1, 0, 2] = value
    attended = torch.empty((2, 8), dtype=dtype)
    qkv = torch.ones((2, 3, 8), dtype=dtype)
    DecodeAttention([0, 1], [3, 3], 1, 1, stored(attended))(stored(qkv), stored(cache))
    assert attended.isfinite().all(-1).tolist() == [True, False]


def test_exponentials_are_exact_to_two_units_in_the_last_place() -> None:
    values = np.linspace(-87, 88, 20001, dtype=np.float32)
    got = np.array([kernels.exp(value) for value in values])
    expected = np.exp(values.astype(np.float64))
    assert (np.abs(got - expected) <= 2 * np.spacing(expected.astype(np.float32))).all()
    assert kernels.exp(np.float32(-1e30)) < 1e-37
    assert math.isnan(kernels.exp(np.float32(math.nan)))


def test_rounding_to_bfloat16_is_torchs() -> None:
    halfway = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 3.4e38, -3.4e38, 1e-39, 0.0])
    values = torch.cat((random(5001, scale=10.0), halfway))[:, None]
    heads = torch.ones((len(values), 1, 2), dtype=torch.bfloat16)
    kernels.rotate(stored(heads), 1, values.numpy(), torch.zeros_like(values).numpy())  # 1 * value - 1 * 0
    assert torch.equal(heads[:, 0, 0], values[:, 0].bfloat16())


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_causal_softmax(dtype: torch.dtype, share: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "can_share", lambda: share)
    scores = random(2, 3 * 4, 30, dtype=dtype, scale=4.0)  # a chunk of 4 tokens after 26, three heads to a group
    seen = torch.ones((4, 30), dtype=torch.bool).tril(26).repeat(3, 1)
    expected = (scores.double() * 0.5).masked_fill(~seen, -math.inf).softmax(-1)
    causal_softmax(scores, 4, 0.5)
    close(scores, expected)


def test_where_nothing_can_be_kept_kernels_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    def njit(**options: Any) -> Callable[[Any], Any]:
        def compile_it(function: Any) -> Any:
            if options.get("cache"):
                raise RuntimeError("cannot cache function: no locator available")
            made.append(options)
            return function

        return compile_it

    monkeypatch.setattr(kernels.numba, "njit", njit)
    function = kernels.compiled_shared(lambda x: x)
    assert function(3) == 3
    assert [options["parallel"] for options in made] == [True]
