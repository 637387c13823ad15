"""Attention over a ragged batch: one call for many decoding sequences, one for each chunk of a prompt or an injection.

Sequences whose KV caches lie side by side in the arena are attended to together, padded to the longest of them; a row's
result does not depend on the others, but for the order in which a product sums, as padding counts for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)

from asynclm.engine.torch.checkpoint import LlamaConfig
from asynclm.engine.torch.kv_arena import KvArena
from asynclm.engine.torch.kv_cache import SequenceCache

CALL_TOKENS = 400
"""A call costs about as much as attending to so many tokens more (measured at 1 to 16 sequences of 64 to 1024): padding
and gaps up to this are cheaper than a further call."""


PRODUCT_BATCH = 12
PRODUCT_ROWS = 2048
"""From so many heads and rows of keys on, two batched products in bfloat16 are faster on CPU than torch's fused kernel,
which multiplies three rows of queries at a time: 0.6 times its time for 16 sequences of 512 tokens, 0.9 for 8 of 64."""


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
    """The order in which `Attention` wants the parts, by place: those that are batched first, by slot."""
    return sorted(range(len(parts)), key=lambda place: (not parts[place].batched, parts[place].cache.slot or 0))


class Attention:
    """Attention for one forward pass: writes keys and values, and attends, layer by layer."""

    def __init__(self, parts: Sequence[Part], config: LlamaConfig, arena: KvArena | None, dtype: torch.dtype) -> None:
        """Prepares what all layers share.

        Args:
            parts: in the order of `in_order`.
            config: the model's sizes.
            arena: where slots lie.
            dtype: of queries, keys and values.
        """
        device = parts[0].cache.rows.device
        self._config = config
        self._arena = arena
        batched = [part for part in parts if part.batched]
        self._batched = len(batched)
        if arena is not None and batched:
            self._places = _places(batched, config, arena)
            self._groups = [
                _Group(batched[first:last], slice(first, last), config, arena, dtype) for first, last in _runs(batched)
            ]
        else:
            self._groups = []
        self._chunks = []
        row = self._batched
        for part in parts[self._batched :]:
            self._chunks.append(_Chunk(part, slice(row, row + part.length), config, dtype, device))
            row += part.length

    def __call__(self, qkv: torch.Tensor, layer: int) -> torch.Tensor:
        """Attends.

        Args:
            qkv: shape (tokens, num_heads + 2 * num_kv_heads, head_dim), queries and keys rotated.
            layer: the layer's number.

        Returns:
            Shape (tokens, num_heads * head_dim).
        """
        results = []
        if self._groups:
            assert self._arena is not None
            heads = self._config.num_heads
            written = qkv[: self._batched, heads:].reshape(-1, self._config.head_dim)
            self._arena.flat(layer).index_copy_(0, self._places, written)
            results += [group(qkv, layer) for group in self._groups]
        results += [chunk(qkv, layer) for chunk in self._chunks]
        return results[0] if len(results) == 1 else torch.cat(results)


class _Group:
    """Decoding sequences whose slots follow on each other, perhaps with gaps."""

    def __init__(
        self, parts: Sequence[Part], rows: slice, config: LlamaConfig, arena: KvArena, dtype: torch.dtype
    ) -> None:
        first, last = _slot(parts[0]), _slot(parts[-1])
        longest = max(part.end for part in parts)
        self._rows = rows
        self._config = config
        self._keys = arena.batch(0, first, last, longest)
        self._values = arena.batch(1, first, last, longest)
        self._width = last - first + 1
        self._own: torch.Tensor | None = None
        ends = [longest] * self._width
        for part in parts:
            ends[_slot(part) - first] = part.end
        if len(parts) < self._width:
            self._own = torch.tensor([_slot(part) - first for part in parts])
        batch = self._width * config.num_kv_heads
        self._by_products = dtype == torch.bfloat16 and batch >= PRODUCT_BATCH and batch * longest >= PRODUCT_ROWS
        self._scale = config.head_dim**-0.5
        self._mask: torch.Tensor | None = None
        if min(ends) < longest:
            unseen = torch.arange(longest) >= torch.tensor(ends)[:, None]
            mask = torch.zeros(unseen.shape, dtype=dtype).masked_fill_(unseen, -math.inf)
            group = config.num_heads // config.num_kv_heads
            self._mask = mask.repeat_interleave(config.num_kv_heads, 0)[:, None].expand(-1, group, -1)

    def __call__(self, qkv: torch.Tensor, layer: int) -> torch.Tensor:
        c = self._config
        q = qkv[self._rows, : c.num_heads]
        if self._own is not None:
            q = q.new_zeros((self._width, *q.shape[1:])).index_copy_(0, self._own, q)
        # The query heads of a group share keys: they take the place of the query's length, which spares copies of keys.
        q = q.reshape(self._width * c.num_kv_heads, -1, c.head_dim)
        attend = self._products if self._by_products else self._fused
        out = attend(q, self._keys[layer], self._values[layer]).reshape(self._width, c.num_heads * c.head_dim)
        return out if self._own is None else out[self._own]

    def _fused(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        mask = None if self._mask is None else self._mask[:, None]
        return F.scaled_dot_product_attention(q[:, None], keys[:, None], values[:, None], attn_mask=mask)

    def _products(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        # Keys come first: the other way round oneDNN would copy them, as their rows do not fill their slots. Scores are
        # rounded to bfloat16, as in transformers' own eager attention.
        scores = torch.bmm(keys, (q * self._scale).transpose(1, 2)).transpose(1, 2).contiguous()
        if self._mask is not None:
            scores += self._mask
        return torch.bmm(scores.softmax(-1), values)


class _Chunk:
    """Any number of tokens of one sequence, wherever its cache is."""

    def __init__(self, part: Part, rows: slice, config: LlamaConfig, dtype: torch.dtype, device: torch.device) -> None:
        self._rows = rows
        self._length = part.length
        self._config = config
        self._written = part.cache.written(part.start, part.end)
        self._keys = part.cache.keys(part.end)
        self._values = part.cache.values(part.end)
        group = config.num_heads // config.num_kv_heads
        self._mask = causal_mask(part.length, part.start, group, dtype, device) if part.length > 1 else None

    def __call__(self, qkv: torch.Tensor, layer: int) -> torch.Tensor:
        c = self._config
        kv_heads, head_dim, length = c.num_kv_heads, c.head_dim, self._length
        part = qkv[self._rows]
        kv = part[:, c.num_heads :].view(length, 2, kv_heads, head_dim)
        self._written[layer].copy_(kv.permute(1, 2, 0, 3))
        q = part[:, : c.num_heads].view(length, kv_heads, -1, head_dim).permute(1, 2, 0, 3)
        q = q.reshape(1, kv_heads, -1, head_dim)  # the heads of a group are folded into the length, as above
        out = F.scaled_dot_product_attention(q, self._keys[layer], self._values[layer], attn_mask=self._mask)
        out = out.view(kv_heads, -1, length, head_dim).permute(2, 0, 1, 3)
        return out.reshape(length, c.num_heads * head_dim)


def causal_mask(length: int, start: int, group: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Additive mask of shape (group * length, start + length): row `g * length + i` sees up to `start + i`."""
    seen = torch.ones((length, start + length), dtype=torch.bool, device=device).tril(start)
    mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, -math.inf)
    return mask.repeat(group, 1)


def _slot(part: Part) -> int:
    assert part.cache.slot is not None
    return part.cache.slot


def _runs(parts: Sequence[Part]) -> list[tuple[int, int]]:
    """Cuts parts in order of slots into runs that are attended to together: (first, end) places."""
    runs = []
    first = 0
    tokens = longest = 0  # of the run so far
    for place, part in enumerate(parts):
        width = _slot(part) - _slot(parts[first]) + 1
        together = width * max(longest, part.end)
        if place > first and together - tokens - part.end > CALL_TOKENS:
            runs.append((first, place))
            first, together, longest = place, part.end, 0
        tokens, longest = together, max(longest, part.end)
    return [*runs, (first, len(parts))]


def _places(parts: Sequence[Part], config: LlamaConfig, arena: KvArena) -> torch.Tensor:
    """Where the parts' keys and values go in `KvArena.flat`: shape (parts * 2 * kv_heads)."""
    slots, kv_heads, tokens = arena.rows.shape[2:5]
    of_slot = torch.tensor([_slot(part) * kv_heads * tokens + part.start for part in parts])
    of_kind = torch.arange(2) * (slots * kv_heads * tokens)
    of_head = torch.arange(kv_heads) * tokens
    return (of_slot[:, None, None] + of_kind[:, None] + of_head).flatten()
