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
from asynclm.engine.torch.operations import Buffer, DecodeAttention, causal_softmax

PRODUCT_TOKENS = 16
"""Chunks of so many tokens, or more, are faster by products than by torch's own kernel, in bfloat16 on CPU."""

BLOCK = 256
"""Tokens of a chunk that are attended to at once: more read fewer keys twice, fewer compute fewer scores in vain."""

MOST_SCORES = 1 << 24
"""Scores at once; two bytes each, and as many read and written."""


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
    """Any number of tokens of one sequence, wherever its cache is.

    The query heads of a group share keys: they are folded into the queries' length, which spares copies of keys.
    """

    def __init__(self, part: Part, rows: slice, config: LlamaConfig, out: torch.Tensor) -> None:
        self._rows = rows
        self._length = part.length
        self._num_heads, self._kv_heads, self._head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self._written = part.cache.written(part.start, part.end)
        products = out.is_cpu and out.dtype == torch.bfloat16 and part.length >= PRODUCT_TOKENS
        make = _Products if products else _Fused
        out = out.view(part.length, self._kv_heads, -1, self._head_dim).permute(1, 2, 0, 3)
        size = max(1, min(BLOCK, MOST_SCORES // (config.num_heads * part.end)))
        self._blocks = [
            (
                slice(first, last := min(first + size, part.length)),
                make(part.cache, part.start + last, out[:, :, first:last]),
            )
            for first in range(0, part.length, size)
        ]

    def __call__(self, qkv: torch.Tensor, layer: int) -> None:
        part = qkv[self._rows]
        kv = part[:, self._num_heads :].view(self._length, 2, self._kv_heads, self._head_dim)
        self._written[layer].copy_(kv.permute(1, 2, 0, 3))
        queries = part[:, : self._num_heads].view(self._length, self._kv_heads, -1, self._head_dim).permute(1, 2, 0, 3)
        for tokens, attend in self._blocks:
            attend(queries[:, :, tokens], layer)


class _Block:
    """Some tokens of a chunk, attended to all keys up to the last of them."""

    def __init__(self, cache: SequenceCache, end: int, out: torch.Tensor) -> None:
        """Prepares what all layers share.

        Args:
            cache: the sequence's.
            end: tokens up to the last one.
            out: where results go, of shape (kv_heads, group, tokens, head_dim).
        """
        self._keys = cache.keys(end)
        self._values = cache.values(end)
        self._out = out


class _Fused(_Block):
    """By torch's own kernel."""

    def __init__(self, cache: SequenceCache, end: int, out: torch.Tensor) -> None:
        super().__init__(cache, end, out)
        group, length = out.shape[1:3]
        self._mask = causal_mask(length, end - length, group, out.dtype, out.device) if length > 1 else None

    def __call__(self, queries: torch.Tensor, layer: int) -> None:
        q = queries.reshape(1, len(queries), -1, queries.shape[-1])
        result = F.scaled_dot_product_attention(q, self._keys[layer], self._values[layer], attn_mask=self._mask)
        self._out.copy_(result.view(self._out.shape))


class _Products(_Block):
    """By two products in bfloat16, which on CPU take half the time of torch's own kernel.

    Scores are rounded to bfloat16, as in transformers' own eager attention.
    """

    def __call__(self, queries: torch.Tensor, layer: int) -> None:
        q = queries.reshape(len(queries), -1, queries.shape[-1])
        scores = torch.bmm(q, self._keys[layer][0].transpose(1, 2))
        causal_softmax(scores, queries.shape[2], queries.shape[-1] ** -0.5)
        self._out.copy_(torch.bmm(scores, self._values[layer][0]).view(self._out.shape))


def causal_mask(length: int, start: int, group: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Additive mask of shape (group * length, start + length): row `g * length + i` sees up to `start + i`."""
    seen = torch.ones((length, start + length), dtype=torch.bool, device=device).tril(start)
    mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, -math.inf)
    return mask.repeat(group, 1)
