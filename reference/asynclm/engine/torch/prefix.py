"""The beginnings of prompts, kept for sequences that begin in the same way: one system prompt, many users.

A tree of blocks of ids with their keys and values; sequences get copies. A block is found by its parent and its own
ids, compared one by one, so no collision of hashes can give a sequence what belongs to another text. The least recently
used blocks go first, and no block before those that continue it.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from asynclm.engine.torch.kv_cache import SequenceCache

BLOCK = 32
"""Tokens in a block."""

_Key: TypeAlias = "tuple[int | str | None, tuple[int, ...]]"


@dataclass(frozen=True, slots=True)
class _Block:
    serial: int
    rows: torch.Tensor


class PrefixStore:
    """Keys and values of prompts' beginnings, apart by adapter.

    Attributes:
        limit: the most bytes that it holds.
        nbytes: bytes held.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._blocks: OrderedDict[_Key, _Block] = OrderedDict()  # the least recently used first
        self._serials = itertools.count()

    def find(self, ids: Sequence[int], adapter: str | None = None) -> int:
        """How many tokens of the beginning are here; never all, as the last one's logits are wanted."""
        return BLOCK * len(self._path(ids[:-1], adapter))

    def fill(self, cache: SequenceCache, ids: Sequence[int], adapter: str | None = None) -> int:
        """Copies what `find` finds into a cache that has room for it; gives the number of tokens."""
        start = 0
        for block in self._path(ids[:-1], adapter):
            cache.rows[:, :, :, start : start + BLOCK] = block.rows
            start += BLOCK
        return start

    def add(self, cache: SequenceCache, ids: Sequence[int], adapter: str | None = None, *, room: int) -> None:
        """Keeps the beginning of a sequence.

        Args:
            cache: holds at least the keys and values of `ids`.
            ids: the prompt.
            adapter: what computed it.
            room: bytes that the store may grow by.
        """
        path = self._path(ids, adapter)
        parent = path[-1].serial if path else adapter
        keys = list(_keys(ids))
        size = cache.bytes_for(BLOCK)
        room = min(room, self.limit - self.nbytes)
        for place in range(len(path), min(len(keys), self.limit // size)):
            if room < size:
                if len(self._blocks) <= place:
                    break  # all others are gone
                room += self.free(size)
            room -= size
            try:
                rows = cache.copy(BLOCK * place, BLOCK * (place + 1))
            except MemoryError:
                break  # nobody has been promised it
            block = _Block(next(self._serials), rows)
            self._blocks[parent, keys[place]] = block
            self.nbytes += block.rows.nbytes
            parent = block.serial
        self._path(ids, adapter)  # those before count as used after those behind

    def free(self, size: int) -> int:
        """Gives up blocks until at least so many bytes are free, or all; gives the number of bytes."""
        freed = 0
        while freed < size and self._blocks:
            _, block = self._blocks.popitem(last=False)
            freed += block.rows.nbytes
        self.nbytes -= freed
        return freed

    def _path(self, ids: Sequence[int], adapter: str | None) -> list[_Block]:
        """The blocks of a beginning, which count as used now: the first as the last used."""
        found: dict[_Key, _Block] = {}
        parent: int | str | None = adapter
        for ids_of_block in _keys(ids):
            block = self._blocks.get((parent, ids_of_block))
            if block is None:
                break
            found[parent, ids_of_block] = block
            parent = block.serial
        for key in reversed(found):
            self._blocks.move_to_end(key)
        return list(found.values())


def _keys(ids: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(ids) - BLOCK + 1, BLOCK):
        yield tuple(ids[start : start + BLOCK])
