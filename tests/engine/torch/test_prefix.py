"""The prefix store gives a beginning what was computed for the same ids, and nothing else, within its limit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asynclm.engine.torch.kv_cache import SequenceCache
from asynclm.engine.torch.prefix import BLOCK, PrefixStore

SIZE = 4 * BLOCK
"""Bytes of a block: a token's rows are two numbers of two bytes, its id and the sum of all ids up to it."""


def new_cache(length: int) -> SequenceCache:
    cache = SequenceCache(num_layers=1, num_kv_heads=1, head_dim=1, dtype=torch.int16, device=torch.device("cpu"))
    cache.reserve(length)
    return cache


def rows_of(ids: list[int]) -> torch.Tensor:
    """What a model would compute: it depends on the ids so far."""
    keys = torch.tensor(ids, dtype=torch.int16)
    return torch.stack((keys, keys.cumsum(0).to(torch.int16)))


def computed(ids: list[int]) -> SequenceCache:
    cache = new_cache(len(ids))
    cache.rows[0, :, 0, : len(ids), 0] = rows_of(ids)
    return cache


def add(store: PrefixStore, ids: list[int], adapter: str | None = None, room: int = 1 << 30) -> None:
    store.add(computed(ids), ids, adapter, room=room)


def found(store: PrefixStore, ids: list[int], adapter: str | None = None) -> int:
    """How much of it is found; what is found is what would be computed."""
    cache = new_cache(len(ids))
    length = store.fill(cache, ids, adapter)
    assert length == store.find(ids, adapter)
    assert torch.equal(cache.rows[0, :, 0, :length, 0], rows_of(ids)[:, :length])
    return length


SYSTEM = list(range(3 * BLOCK + 5))


def test_the_last_token_is_always_computed() -> None:
    store = PrefixStore(1 << 20)
    add(store, SYSTEM)
    assert found(store, SYSTEM) == 3 * BLOCK
    assert found(store, SYSTEM[: 3 * BLOCK + 1]) == 3 * BLOCK
    assert found(store, SYSTEM[: 3 * BLOCK]) == 2 * BLOCK
    assert found(store, SYSTEM[:BLOCK]) == 0
    assert found(store, [*SYSTEM[: 2 * BLOCK], 9, *SYSTEM]) == 2 * BLOCK
    assert store.nbytes == 3 * SIZE


def test_equal_blocks_after_different_ones_are_not_the_same() -> None:
    store = PrefixStore(1 << 20)
    first, second, tail = [1] * BLOCK, [2] * BLOCK, [3] * BLOCK
    add(store, [*first, *tail])
    assert found(store, [*second, *tail, 0]) == 0
    add(store, [*second, *tail])
    assert found(store, [*second, *tail, 0]) == 2 * BLOCK
    assert found(store, [*tail, 0]) == 0
    assert store.nbytes == 4 * SIZE


def test_adapters_share_nothing() -> None:
    store = PrefixStore(1 << 20)
    add(store, SYSTEM, "french")
    assert found(store, SYSTEM) == found(store, SYSTEM, "german") == 0
    assert found(store, SYSTEM, "french") == 3 * BLOCK


def test_the_least_recently_used_go_first_and_ends_before_beginnings() -> None:
    store = PrefixStore(5 * SIZE)
    one, other = [1] * (2 * BLOCK), [2] * (2 * BLOCK)
    add(store, one)
    add(store, other)
    assert found(store, [*one, 0]) == 2 * BLOCK  # used again
    assert store.free(1) == SIZE
    assert found(store, [*other, 0]) == BLOCK
    assert found(store, [*one, 0]) == 2 * BLOCK
    add(store, [3] * (9 * BLOCK))
    assert store.nbytes == 5 * SIZE
    assert found(store, [3] * (9 * BLOCK)) == 5 * BLOCK
    assert store.free(1 << 20) == 5 * SIZE
    assert store.nbytes == 0


@pytest.mark.parametrize(("limit", "room", "kept"), [(0, 99, 0), (2, 99, 2), (99, 1, 1), (99, 0, 0)])
def test_there_is_room_for_what_there_is_room_for(limit: int, room: int, kept: int) -> None:
    store = PrefixStore(limit * SIZE)
    add(store, SYSTEM, room=room * SIZE)
    assert store.nbytes == kept * SIZE
    assert found(store, SYSTEM) == kept * BLOCK


prompts = st.lists(st.integers(0, 1), min_size=1, max_size=6).flatmap(
    lambda blocks: st.integers(0, BLOCK - 1).map(lambda rest: [n for n in [*blocks, 7] for _ in range(BLOCK)][rest:])
)


@given(st.integers(0, 8), st.lists(st.tuples(prompts, st.sampled_from([None, "a"]), st.booleans()), max_size=25))
def test_whatever_was_kept_nothing_else_is_found(limit: int, prompts: list[tuple[list[int], str | None, bool]]) -> None:
    store = PrefixStore(limit * SIZE)
    for prompt, adapter, freed in prompts:
        assert found(store, prompt, adapter) < len(prompt)
        room = (limit * SIZE - store.nbytes) // 2
        before = store.nbytes
        add(store, prompt, adapter, room=room)
        assert store.nbytes <= min(limit * SIZE, before + room)
        if freed:
            store.free(SIZE)
        assert store.nbytes == sum(block.rows.nbytes for block in store._blocks.values())
        assert {parent for parent, _ in store._blocks} <= {None, "a"} | {b.serial for b in store._blocks.values()}
