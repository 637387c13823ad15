"""The KV cache: one tensor for each sequence, which grows in blocks and is freed with it.

Each sequence owns its rows, so sequences of any lengths decode in one batch, a trapped one costs what it holds and no
more, and moving one to another device or dropping it concerns no other.
"""

from __future__ import annotations

import torch

BLOCK = 256
"""Tokens by which a cache grows."""


class SequenceCache:
    """Keys and values of one sequence.

    Attributes:
        rows: shape (layers, 2, kv_heads, capacity, head_dim); keys at index 0 of the second dimension, values at 1.
    """

    def __init__(
        self, *, num_layers: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.rows = torch.empty((num_layers, 2, num_kv_heads, 0, head_dim), dtype=dtype, device=device)

    @property
    def capacity(self) -> int:
        """Tokens that there is room for."""
        return self.rows.shape[3]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.rows.nbytes

    def reserve(self, length: int) -> None:
        """Makes room for this many tokens, keeping what is there.

        Raises:
            MemoryError: the device has no room.
        """
        if length <= self.capacity:
            return
        shape = list(self.rows.shape)
        shape[3] = -(-length // BLOCK) * BLOCK
        try:
            grown = self.rows.new_empty(shape)
        except RuntimeError as error:  # torch's allocators raise nothing more specific on CPU
            raise MemoryError(f"KV cache of {shape[3]} tokens: {error!s:.200}") from None
        grown[:, :, :, : self.capacity] = self.rows
        self.rows = grown

    def written(self, start: int, end: int) -> tuple[torch.Tensor, ...]:
        """For each layer, the rows of tokens `start` to `end`: shape (2, kv_heads, end - start, head_dim)."""
        return self.rows[:, :, :, start:end].unbind(0)

    def keys(self, end: int) -> tuple[torch.Tensor, ...]:
        """For each layer, the keys of tokens 0 to `end`: shape (1, kv_heads, end, head_dim)."""
        return self.rows[:, :1, :, :end].unbind(0)

    def values(self, end: int) -> tuple[torch.Tensor, ...]:
        """For each layer, the values of tokens 0 to `end`: shape (1, kv_heads, end, head_dim)."""
        return self.rows[:, 1:, :, :end].unbind(0)
