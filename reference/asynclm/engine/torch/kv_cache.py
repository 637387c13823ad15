"""The KV cache: one tensor for each sequence, freed with it; a slot of the arena where there is one.

Each sequence owns its rows, so sequences of any lengths decode in one batch, a trapped one costs what it holds and no
more, and moving one to another device or dropping it concerns no other.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Sequence

import torch

from asynclm.engine.torch.kv_arena import KvArena

GRAIN = 32
"""Tokens that capacities are multiples of."""

MAPPED_BYTES = 1 << 17
"""From this size on, rows on CPU are mapped from the system and go back to it at once when they are freed. The C
library would keep them: with a thousand sessions that come and go, its heap becomes many times what is in use."""


class SequenceCache:
    """Keys and values of one sequence.

    Attributes:
        rows: shape (layers, 2, kv_heads, capacity, head_dim); keys at index 0 of the second dimension, values at 1.
        slot: its place in the arena, or None if its memory lies elsewhere.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
        arena: KvArena | None = None,
    ) -> None:
        self.rows = torch.empty((num_layers, 2, num_kv_heads, 0, head_dim), dtype=dtype, device=device)
        self.slot: int | None = None
        self._arena = arena
        self._give_back: weakref.finalize[[int], SequenceCache] | None = None
        self._token_bytes = num_layers * 2 * num_kv_heads * head_dim * dtype.itemsize

    @property
    def capacity(self) -> int:
        """Tokens that there is room for."""
        return self.rows.shape[3]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.rows.nbytes

    def bytes_for(self, length: int) -> int:
        """Bytes held with room for this many tokens."""
        return rounded(length) * self._token_bytes

    def reserve(self, length: int) -> None:
        """Makes room for this many tokens, keeping what is there.

        Raises:
            MemoryError: the device has no room.
        """
        if length <= self.capacity:
            return
        if self._in_slot(length):
            return
        grown = self._new(rounded(length))
        grown[:, :, :, : self.capacity] = self.rows
        self.rows = grown

    def free(self) -> None:
        """Gives all memory back."""
        self.rows = self.rows.new_empty((*self.rows.shape[:3], 0, self.rows.shape[4]))
        if self._give_back is not None:
            self._give_back()
        self.slot = self._give_back = None

    def copy(self, start: int, end: int) -> torch.Tensor:
        """The rows of tokens `start` to `end`, in memory of their own.

        Raises:
            MemoryError: the device has no room.
        """
        copied = self._new(end - start)
        copied.copy_(self.rows[:, :, :, start:end])
        return copied

    def written(self, start: int, end: int) -> tuple[torch.Tensor, ...]:
        """For each layer, the rows of tokens `start` to `end`: shape (2, kv_heads, end - start, head_dim)."""
        return self.rows[:, :, :, start:end].unbind(0)

    def keys(self, end: int) -> tuple[torch.Tensor, ...]:
        """For each layer, the keys of tokens 0 to `end`: shape (1, kv_heads, end, head_dim)."""
        return self.rows[:, :1, :, :end].unbind(0)

    def values(self, end: int) -> tuple[torch.Tensor, ...]:
        """For each layer, the values of tokens 0 to `end`: shape (1, kv_heads, end, head_dim)."""
        return self.rows[:, 1:, :, :end].unbind(0)

    def _in_slot(self, length: int) -> bool:
        """Makes room in the arena, if there is one with room."""
        if self._arena is None or length > self._arena.tokens or (self.slot is None and self.capacity):
            return False
        if self.slot is None:
            self.slot = self._arena.take()
            if self.slot is None:
                return False
            self._give_back = weakref.finalize(self, self._arena.give_back, self.slot)
        self.rows = self._arena.slot(self.slot, rounded(length))
        return True

    def _new(self, tokens: int) -> torch.Tensor:
        shape = (*self.rows.shape[:3], tokens, self.rows.shape[4])
        try:
            return _new_rows(shape, self.rows)
        except (RuntimeError, OSError) as error:  # torch's allocators raise nothing more specific on CPU
            raise MemoryError(f"KV cache of {tokens} tokens: {error!s:.200}") from None


def rounded(length: int) -> int:
    """The capacity for so many tokens."""
    return -(-length // GRAIN) * GRAIN


def _new_rows(shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    size = math.prod(shape) * like.element_size()
    if like.device.type != "cpu" or size < MAPPED_BYTES or not hasattr(mmap, "MAP_ANONYMOUS"):
        return like.new_empty(shape)
    region = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # unmapped with the last tensor of it
    return torch.frombuffer(region, dtype=like.dtype).view(shape)
