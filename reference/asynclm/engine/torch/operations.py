"""The small operations of a forward pass: compiled where they are on CPU, composed by torch elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)

from asynclm.engine.torch import kernels, threads

COMPILED = frozenset((torch.float32, torch.bfloat16))
"""What `kernels` compute."""

GATES_TO_SHARE = 1 << 15
KEYS_TO_SHARE = 1 << 10
"""With so many gates, and so many rows of keys, or more, threads share the work; with fewer, waking them costs more."""


def is_compiled(tensor: torch.Tensor) -> bool:
    """Whether `kernels` compute with this kind of tensor."""
    return tensor.is_cpu and tensor.dtype in COMPILED


def stored(tensor: torch.Tensor) -> kernels.Stored:
    """A tensor's memory, as `kernels` want it."""
    array: npt.NDArray[Any] = (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


class Buffer:
    """A tensor, and its memory as `kernels` want it.

    Attributes:
        tensor: the tensor, C-contiguous.
        array: the same memory; None where kernels do not compute with it.
    """

    __slots__ = ("array", "tensor")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor
        self.array = stored(tensor) if is_compiled(tensor) else None


class RmsNorm:
    """`x / sqrt(mean(x**2) + eps) * weight` over the last dimension, computed in float32."""

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        self._weight = weight
        self._eps = eps
        self._wide = weight.float().numpy() if is_compiled(weight) else None
        self._narrow_eps = np.float32(eps)

    def __call__(self, x: torch.Tensor, out: Buffer) -> None:
        """Normalises rows of shape (tokens, size) into a buffer of the same shape."""
        if out.array is None or self._wide is None:
            out.tensor.copy_(F.rms_norm(x, self._weight.shape, self._weight, self._eps))
        else:
            kernels.norm(stored(x), self._wide, self._narrow_eps, out.array)


class Rotation:
    """Rotary position embedding for one batch of tokens."""

    def __init__(self, positions: torch.Tensor, frequencies: torch.Tensor, dtype: torch.dtype) -> None:
        """Prepares what all layers share.

        Args:
            positions: of the tokens, float32 of shape (tokens,).
            frequencies: angles by position, float32 of shape (head_dim / 2,).
            dtype: of queries and keys.
        """
        angles = positions[:, None] * frequencies
        cos, sin = angles.cos(), angles.sin()
        # The sines of the first half are negated, so that a roll by half a head does for the usual `rotate_half`.
        self._cos = torch.cat((cos, cos), dim=-1).to(dtype)[:, None]
        self._sin = torch.cat((-sin, sin), dim=-1).to(dtype)[:, None]
        self._arrays = (cos.numpy(), sin.numpy()) if cos.is_cpu else ()

    def __call__(self, heads: Buffer, count: int) -> None:
        """Rotates in place.

        Args:
            heads: shape (tokens, heads, head_dim).
            count: how many of each token's heads, from the first.
        """
        if heads.array is not None:
            kernels.rotate(heads.array, count, *self._arrays)
            return
        rotated = heads.tensor[:, :count]
        rolled = rotated.roll(rotated.shape[-1] // 2, -1)
        torch.addcmul(rotated * self._cos, rolled, self._sin, out=rotated)


def gate(gate_up: torch.Tensor, out: Buffer) -> None:
    """`silu(gate) * up`.

    Args:
        gate_up: shape (tokens, 2 * size), gates first.
        out: the result, of shape (tokens, size).
    """
    if out.array is None:
        gates, ups = gate_up.chunk(2, dim=-1)
        torch.mul(F.silu(gates), ups, out=out.tensor)
    elif out.array.size >= GATES_TO_SHARE and threads.can_share():
        kernels.gate_shared(stored(gate_up), out.array)
    else:
        kernels.gate(stored(gate_up), out.array)


def causal_softmax(scores: torch.Tensor, length: int, scale: float) -> None:
    """Scores of a chunk's queries against all keys up to its end, as shares of one, in place; compiled.

    Args:
        scores: shape (heads, rows, keys); row `n * length + i` is of the chunk's token `i`, for any `n`.
        length: tokens of the chunk.
        scale: of the scores.
    """
    rows = stored(scores).reshape(-1, scores.shape[-1])
    run = kernels.causal_softmax_shared if threads.can_share() else kernels.causal_softmax
    run(rows, length, np.float32(scale))


class DecodeAttention:
    """Attention of one token of each of several sequences, whose caches are slots of an arena; compiled."""

    def __init__(
        self, slots: Sequence[int], starts: Sequence[int], num_heads: int, kv_heads: int, out: kernels.Stored
    ) -> None:
        """Prepares what all layers share.

        Args:
            slots: of the sequences.
            starts: tokens that each has in its cache.
            num_heads: heads of queries.
            kv_heads: heads of keys.
            out: where results go, of shape (sequences, num_heads * head_dim).
        """
        self._slots = np.array(slots)
        self._starts = np.array(starts)
        self._num_heads = num_heads
        self._out = out.reshape(len(slots), num_heads, -1)
        share = (sum(starts) + len(starts)) * kv_heads >= KEYS_TO_SHARE and threads.can_share()
        self._kernel = kernels.attend_shared if share else kernels.attend

    def __call__(self, qkv: kernels.Stored, cache: kernels.Stored) -> None:
        """Attends; see `kernels.attend`.

        Args:
            qkv: of the sequences' tokens, the first of perhaps more: shape (tokens, heads, head_dim).
            cache: a layer of the arena.
        """
        self._kernel(qkv, self._num_heads, cache, self._slots, self._starts, self._out)


def compile_kernels(dtype: torch.dtype) -> None:
    """Compiles what a model of this dtype needs on CPU; takes seconds, the first time on a machine."""
    x = torch.zeros((2, 6, 4), dtype=dtype)
    cache = stored(torch.zeros((2, 2, 2, 2, 4), dtype=dtype))
    places = np.arange(2)
    kernels.norm(stored(x[0]), np.zeros(4, np.float32), np.float32(1), stored(x[1]))
    kernels.rotate(stored(x), 4, np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32))
    kernels.gate(stored(x[0]), stored(torch.zeros((6, 2), dtype=dtype)))
    kernels.attend(stored(x), 2, cache, places, places * 0, stored(torch.zeros((2, 2, 4), dtype=dtype)))
    kernels.causal_softmax(stored(x[0]), 1, np.float32(1))
    if threads.can_share():
        kernels.causal_softmax_shared(stored(x[0]), 1, np.float32(1))
        kernels.gate_shared(stored(x[0]), stored(torch.zeros((6, 2), dtype=dtype)))
        kernels.attend_shared(stored(x), 2, cache, places, places * 0, stored(torch.zeros((2, 2, 4), dtype=dtype)))
