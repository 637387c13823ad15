"""One stretch of addresses for the KV caches of many sequences, so that attention finds all of them in one array.

Each sequence has a slot with addresses for the longest context, but memory only for the tokens that it holds: the
system gives a page when it is first written, and takes it back with the slot. So a slot grows without a copy. CPU and
Linux only; elsewhere, and where so many addresses are refused, each sequence has memory of its own.
"""

from __future__ import annotations

import heapq
import math
import mmap
import sys

import torch

from asynclm.engine.torch.kernels import Stored
from asynclm.engine.torch.operations import COMPILED, stored

MOST_BYTES = 1 << 40
"""Addresses, not memory. Of the 128 TiB that a process has on most machines."""

LEAST_BYTES = 1 << 34
"""Where not even so many addresses are given, there is no arena."""

MOST_SLOTS = 1024
_MAP_NORESERVE = 0x4000  # Linux on x86-64 and arm64; not named in the module `mmap`


class KvArena:
    """Slots of keys and values.

    Attributes:
        rows: shape (layers, 2, slots, kv_heads, tokens, head_dim); keys at index 0 of the second dimension.
    """

    def __init__(self, region: mmap.mmap, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Wraps a region of zeros of that size."""
        self.rows = torch.frombuffer(region, dtype=dtype).view(shape)
        self._region = region
        self._layers = [stored(layer) for layer in self.rows]
        self._free = list(range(shape[2]))
        self._block_bytes = math.prod(shape[3:]) * dtype.itemsize

    @property
    def tokens(self) -> int:
        """The longest context that a slot holds."""
        return self.rows.shape[4]

    def take(self) -> int | None:
        """A slot that nobody has, the first one; None if there is none."""
        return heapq.heappop(self._free) if self._free else None

    def give_back(self, slot: int) -> None:
        """Gives a slot's memory to the system; whoever takes it next finds zeros."""
        layers, kinds, slots = self.rows.shape[:3]
        for block in range(layers * kinds):
            start = (block * slots + slot) * self._block_bytes
            self._region.madvise(mmap.MADV_DONTNEED, start, self._block_bytes)
        heapq.heappush(self._free, slot)

    def slot(self, slot: int, capacity: int) -> torch.Tensor:
        """A slot's first rows: shape (layers, 2, kv_heads, capacity, head_dim)."""
        return self.rows[:, :, slot, :, :capacity]

    def layer(self, number: int) -> Stored:
        """A layer's rows, as compiled kernels want them: shape (2, slots, kv_heads, tokens, head_dim)."""
        return self._layers[number]


def open_arena(
    *,
    num_layers: int,
    num_kv_heads: int,
    head_dim: int,
    context_length: int,
    dtype: torch.dtype,
    device: torch.device,
    most_bytes: int = MOST_BYTES,
) -> KvArena | None:
    """An arena for a model's sequences, or None where there can be none."""
    if device.type != "cpu" or sys.platform != "linux" or dtype not in COMPILED:
        return None
    page_rows = mmap.PAGESIZE // math.gcd(mmap.PAGESIZE, num_kv_heads * head_dim * dtype.itemsize)
    grain = math.lcm(page_rows, 32)
    tokens = -(-context_length // grain) * grain
    slot_bytes = num_layers * 2 * num_kv_heads * tokens * head_dim * dtype.itemsize
    while most_bytes >= LEAST_BYTES:
        slots = min(MOST_SLOTS, most_bytes // slot_bytes)
        if not slots:
            return None
        try:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
            region = mmap.mmap(-1, slots * slot_bytes, flags=flags)
        except (OSError, ValueError):
            most_bytes //= 4
            continue
        region.madvise(mmap.MADV_NOHUGEPAGE)  # large pages would give memory to a thousand tokens for the first one
        return KvArena(region, (num_layers, 2, slots, num_kv_heads, tokens, head_dim), dtype)
    return None
