"""Attention over a ragged batch: one call for all decoding sequences, one for each chunk of a prompt or injection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)

from asynclm.engine.torch.checkpoint import LlamaConfig
from asynclm.engine.torch.kv_arena import KvArena
from asynclm.engine.torch.kv_cache import SequenceCache
from asynclm.engine.torch.operations import Buffer, DecodeAttention


@dataclass(frozen=True, slots=True)
class Part:
    """One sequence's part in a batch: `length` tokens from position `start`."""

    cache: SequenceCache
    start: int
    length: int

    @property
    def end(self) -> int:
        """Tokens in the cache after it."""
        return self.start + self.length

    @property
    def batched(self) -> bool:
        """Whether it is attended to together with others."""
        return self.length == 1 and self.cache.slot is not None


def in_order(parts: Sequence[Part]) -> list[int]:
    """The order in which `Attention` wants the parts, by place: those that are batched first."""
    return sorted(range(len(parts)), key=lambda place: not parts[place].batched)


class Attention:
    """Attention for one forward pass: writes keys and values, and attends, layer by layer."""

    def __init__(self, parts: Sequence[Part], config: LlamaConfig, arena: KvArena | None, out: Buffer) -> None:
        """Prepares what all layers share.

        Args:
            parts: in the order of `in_order`.
            config: the model's sizes.
            arena: where slots lie.
            out: where results go, of shape (tokens, num_heads * head_dim).
        """
        self._arena = arena
        slots = [part.cache.slot for part in parts if part.batched and part.cache.slot is not None]
        row = len(slots)
        self._decode: DecodeAttention | None = None
        if slots and out.array is not None:
            starts = [part.start for part in parts[:row]]
            self._decode = DecodeAttention(slots, starts, config.num_heads, config.num_kv_heads, out.array[:row])
        self._chunks = []
        for part in parts[row:]:
            end = row + part.length
            self._chunks.append(_Chunk(part, slice(row, end), config, out.tensor[row:end]))
            row = end

    def __call__(self, qkv: Buffer, layer: int) -> None:
        """Attends.

        Args:
            qkv: shape (tokens, num_heads + 2 * num_kv_heads, head_dim), queries and keys rotated.
            layer: the layer's number.
        """
        if self._decode is not None and self._arena is not None and qkv.array is not None:
            self._decode(qkv.array, self._arena.layer(layer))
        for chunk in self._chunks:
            chunk(qkv.tensor, layer)


class _Chunk:
    """Any number of tokens of one sequence, wherever its cache is."""

    def __init__(self, part: Part, rows: slice, config: LlamaConfig, out: torch.Tensor) -> None:
        self._rows = rows
        self._out = out.view(part.length, config.num_kv_heads, -1, config.head_dim)
        self._length = part.length
        self._config = config
        self._written = part.cache.written(part.start, part.end)
        self._keys = part.cache.keys(part.end)
        self._values = part.cache.values(part.end)
        group = config.num_heads // config.num_kv_heads
        self._mask = causal_mask(part.length, part.start, group, out.dtype, out.device) if part.length > 1 else None

    def __call__(self, qkv: torch.Tensor, layer: int) -> None:
        c = self._config
        kv_heads, head_dim, length = c.num_kv_heads, c.head_dim, self._length
        part = qkv[self._rows]
        kv = part[:, c.num_heads :].view(length, 2, kv_heads, head_dim)
        self._written[layer].copy_(kv.permute(1, 2, 0, 3))
        q = part[:, : c.num_heads].view(length, kv_heads, -1, head_dim).permute(1, 2, 0, 3)
        q = q.reshape(1, kv_heads, -1, head_dim)  # the heads of a group are folded into the length, as above
        result = F.scaled_dot_product_attention(q, self._keys[layer], self._values[layer], attn_mask=self._mask)
        self._out.copy_(result.view(kv_heads, -1, length, head_dim).permute(2, 0, 1, 3))


def causal_mask(length: int, start: int, group: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Additive mask of shape (group * length, start + length): row `g * length + i` sees up to `start + i`."""
    seen = torch.ones((length, start + length), dtype=torch.bool, device=device).tril(start)
    mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, -math.inf)
    return mask.repeat(group, 1)
