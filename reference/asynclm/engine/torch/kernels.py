"""What lies between a model's products on CPU, compiled for the processor at hand: norm, rotation, gate, attention.

torch composes each of these of many small operations there, which for few tokens cost more than their arithmetic.
Arrays are float32, or uint16 with the bits of bfloat16; everything is computed in float32, and rounded once. A row's
result does not depend on the rows beside it. Compiling takes seconds, once: the results are kept on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from numba import prange
from numba.extending import overload

F = TypeVar("F", bound=Callable[..., Any])

Stored = npt.NDArray[Any]
"""Numbers as a model stores them: float32, or the bits of bfloat16."""

Places = npt.NDArray[np.int64]

FAST_MATH = {"reassoc", "contract", "arcp", "nsz"}
"""Sums in any order, so that they become vector instructions. What is not a number stays none."""


def compiled(function: F) -> F:
    """Compiles a function of arrays when it is first called, and keeps the result where it can be kept."""
    return _compiled(function, parallel=False)


def compiled_shared(function: F) -> F:
    """The same, and several threads share the work of its `prange`."""
    return _compiled(function, parallel=True)


def _compiled(function: F, *, parallel: bool) -> F:
    options: dict[str, Any] = {"nogil": True, "fastmath": FAST_MATH, "error_model": "numpy", "parallel": parallel}
    try:
        kept: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that may be written to
        kept = numba.njit(**options)(function)
    return kept


def widen(stored: Any) -> Any:
    """A stored number as float32; for compiled code."""
    raise NotImplementedError


def narrow(value: Any, like: Any) -> Any:
    """A float32 as a number that is stored as `like` is, rounded to the nearest, ties to even; for compiled code."""
    raise NotImplementedError


@overload(widen, inline="always", strict=False)  # type: ignore[untyped-decorator]
def _widen(stored: Any) -> Any:
    if isinstance(stored, numba.types.Float):
        return lambda stored: stored
    return lambda stored: np.uint32(np.uint32(stored) << np.uint32(16)).view(np.float32)


@overload(narrow, inline="always", strict=False)  # type: ignore[untyped-decorator]
def _narrow(value: Any, like: Any) -> Any:
    if isinstance(like, numba.types.Float):
        return lambda value, like: value

    def rounded(value, like):  # type: ignore[no-untyped-def]  # pragma: no cover
        bits = np.float32(value).view(np.uint32)
        half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return np.uint16(np.uint32(bits + half) >> np.uint32(16))

    return rounded


@compiled
def exp(x: np.float32) -> Any:
    """e**x to two units in the last place, in instructions that become vector ones (the polynomial is Cephes's)."""
    if x > np.float32(88.0):
        x = np.float32(88.0)
    if x < np.float32(-87.0):
        x = np.float32(-87.0)
    n = np.floor(x * np.float32(1.44269504088896341) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1.0)
    power = (np.int32(n) + np.int32(127)) << np.int32(23)
    return p * np.uint32(power).view(np.float32)


@compiled
def norm(x: Stored, weight: Stored, eps: np.float32, out: Stored) -> None:
    """`x / sqrt(mean(x**2) + eps) * weight`, row by row.

    Args:
        x: shape (rows, size).
        weight: float32 of shape (size,).
        eps: as above.
        out: the result, of the shape of `x`.
    """
    rows, size = x.shape
    for row in range(rows):
        total = np.float32(0)
        for i in range(size):
            value = widen(x[row, i])
            total += value * value
        scale = np.float32(1) / np.float32(math.sqrt(total / np.float32(size) + eps))
        for i in range(size):
            out[row, i] = narrow(widen(x[row, i]) * scale * weight[i], x[row, i])


@compiled
def rotate(heads: Stored, count: int, cos: Stored, sin: Stored) -> None:
    """Rotary position embedding, in place.

    Args:
        heads: shape (tokens, heads, head_dim), C-contiguous.
        count: how many of each token's heads are rotated, from the first.
        cos: float32 of shape (tokens, head_dim / 2).
        sin: the same.
    """
    half = heads.shape[2] // 2
    for token in range(heads.shape[0]):
        for head in range(count):
            for i in range(half):
                a, b = widen(heads[token, head, i]), widen(heads[token, head, half + i])
                c, s = cos[token, i], sin[token, i]
                heads[token, head, i] = narrow(a * c - b * s, heads[token, head, i])
                heads[token, head, half + i] = narrow(b * c + a * s, heads[token, head, i])


@compiled
def gate_row(gate_up: Stored, out: Stored) -> None:
    """One row of `gate`."""
    size = len(out)
    for i in range(size):
        value = widen(gate_up[i])
        opened = value / (np.float32(1) + exp(-value))
        out[i] = narrow(opened * widen(gate_up[size + i]), gate_up[i])


@compiled
def gate(gate_up: Stored, out: Stored) -> None:
    """`silu(gate) * up`, row by row.

    Args:
        gate_up: shape (rows, 2 * size): gates, then what they are multiplied with.
        out: the result, of shape (rows, size).
    """
    for row in range(len(out)):
        gate_row(gate_up[row], out[row])


@compiled_shared
def gate_shared(gate_up: Stored, out: Stored) -> None:
    """The same, by several threads."""
    for row in prange(len(out)):
        gate_row(gate_up[row], out[row])


@compiled
def attend_group(q: Stored, keys: Stored, values: Stored, scale: np.float32, out: Stored) -> None:
    """Attention of one token's heads that share keys.

    Args:
        q: shape (group, head_dim).
        keys: shape (length, head_dim).
        values: the same.
        scale: of the scores.
        out: the result, of the shape of `q`.
    """
    group, size = q.shape
    length = keys.shape[0]
    scaled = np.empty((group, size), np.float32)
    scores = np.empty((group, length), np.float32)
    sums = np.zeros((group, size), np.float32)
    for head in range(group):
        for i in range(size):
            scaled[head, i] = widen(q[head, i]) * scale
    for token in range(length):
        for head in range(group):
            score = np.float32(0)
            for i in range(size):
                score += scaled[head, i] * widen(keys[token, i])
            scores[head, token] = score
    for head in range(group):
        softmax(scores[head])
    for token in range(length):
        for head in range(group):
            share = scores[head, token]
            for i in range(size):
                sums[head, i] += share * widen(values[token, i])
    for head in range(group):
        for i in range(size):
            out[head, i] = narrow(sums[head, i], q[head, i])


@compiled
def softmax(scores: Stored) -> None:
    """Scores as shares of one, in place."""
    highest = scores[0]
    for i in range(len(scores)):
        highest = max(highest, scores[i])
    total = np.float32(0)
    for i in range(len(scores)):
        scores[i] = exp(scores[i] - highest)
        total += scores[i]
    for i in range(len(scores)):
        scores[i] /= total


@compiled
def attend_item(
    item: int, qkv: Stored, num_heads: int, cache: Stored, slots: Places, starts: Places, out: Stored
) -> None:
    """One token's heads that share keys, of all that `attend` computes; neighbours are of different sequences, so that
    threads with as many of them have equal work.
    """
    kv_heads, size = cache.shape[2], cache.shape[4]
    group = num_heads // kv_heads
    head = np.int64(item) // len(slots)
    row = np.int64(item) % len(slots)
    slot, start = slots[row], starts[row]
    for i in range(size):
        cache[0, slot, head, start, i] = qkv[row, num_heads + head, i]
        cache[1, slot, head, start, i] = qkv[row, num_heads + kv_heads + head, i]
    first = head * group
    attend_group(
        qkv[row, first : first + group],
        cache[0, slot, head, : start + 1],
        cache[1, slot, head, : start + 1],
        np.float32(1 / math.sqrt(size)),
        out[row, first : first + group],
    )


@compiled
def attend(qkv: Stored, num_heads: int, cache: Stored, slots: Places, starts: Places, out: Stored) -> None:
    """Attention of one token of each of several sequences, whose keys and values are written first.

    Args:
        qkv: shape (sequences, num_heads + 2 * kv_heads, head_dim), queries and keys rotated.
        num_heads: heads of queries.
        cache: shape (2, slots, kv_heads, tokens, head_dim); keys, then values.
        slots: the slot of each sequence.
        starts: the tokens that each has in it.
        out: the result, of shape (sequences, num_heads, head_dim).
    """
    for item in range(len(slots) * cache.shape[2]):
        attend_item(item, qkv, num_heads, cache, slots, starts, out)


@compiled_shared
def attend_shared(qkv: Stored, num_heads: int, cache: Stored, slots: Places, starts: Places, out: Stored) -> None:
    """The same, by several threads."""
    for item in prange(len(slots) * cache.shape[2]):
        attend_item(item, qkv, num_heads, cache, slots, starts, out)


@compiled
def causal_softmax_row(scores: Stored, seen: int, scale: np.float32) -> None:
    """One row of `causal_softmax`."""
    wide = np.empty(seen, np.float32)
    for i in range(seen):
        wide[i] = widen(scores[i]) * scale
    softmax(wide)
    for i in range(seen):
        scores[i] = narrow(wide[i], scores[i])
    for i in range(seen, len(scores)):
        scores[i] = narrow(np.float32(0), scores[i])


@compiled
def causal_softmax(scores: Stored, length: int, scale: np.float32) -> None:
    """Scores of a chunk's queries against all keys up to its end, as shares of one, in place.

    Args:
        scores: shape (rows, keys); row `n * length + i` is of the chunk's token `i`, for any `n`.
        length: tokens of the chunk.
        scale: of the scores.
    """
    rows, keys = scores.shape
    for row in range(rows):
        causal_softmax_row(scores[row], keys - length + 1 + row % length, scale)


@compiled_shared
def causal_softmax_shared(scores: Stored, length: int, scale: np.float32) -> None:
    """The same, by several threads."""
    rows, keys = scores.shape
    for row in prange(rows):
        causal_softmax_row(scores[row], keys - length + 1 + np.int64(row) % length, scale)


_sched_setaffinity = numba.types.ExternalFunction(
    "sched_setaffinity", numba.types.int32(numba.types.int32, numba.types.uintp, numba.types.voidptr)
)


@compiled_shared
def pin(sets: npt.NDArray[np.uint64], results: npt.NDArray[np.int32]) -> None:
    """Each thread pins itself; Linux only.

    Args:
        sets: for each thread, the CPUs that it may run on, a bit each: shape (threads, words).
        results: 0 for each thread that could, of shape (threads,).
    """
    for thread in prange(len(sets)):
        results[thread] = _sched_setaffinity(0, sets.shape[1] * 8, sets[thread].ctypes)


@compiled_shared
def touch(x: Stored) -> None:
    """Leaves each element as it is; starts the threads."""
    for i in prange(len(x)):
        x[i] += 0
