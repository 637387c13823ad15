"""Slots: apart from each other, zeros when taken, memory only while they are held."""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

import pytest
import torch

from asynclm.engine.torch import kv_arena
from asynclm.engine.torch.kv_arena import KvArena, open_arena
from asynclm.engine.torch.kv_cache import SequenceCache
from asynclm.engine.torch.operations import stored

CPU = torch.device("cpu")
SIZES = {"num_layers": 2, "num_kv_heads": 3, "head_dim": 8}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is an arena on Linux only")


def new_arena(context_length: int = 100, dtype: torch.dtype = torch.bfloat16) -> KvArena:
    arena = open_arena(**SIZES, context_length=context_length, dtype=dtype, device=CPU)
    assert arena is not None
    return arena


def new_cache(arena: KvArena | None) -> SequenceCache:
    return SequenceCache(**SIZES, dtype=torch.bfloat16, device=CPU, arena=arena)


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_a_slot_grows_in_place_and_others_are_not_touched() -> None:
    arena = new_arena()
    first, second = new_cache(arena), new_cache(arena)
    for cache in (first, second):
        cache.reserve(20)
    assert (first.slot, second.slot) == (0, 1)
    first.rows.fill_(1)
    second.rows.fill_(2)
    address = first.rows.data_ptr()
    first.reserve(90)
    assert first.capacity == 96
    assert first.nbytes == first.bytes_for(90)
    assert first.rows.data_ptr() == address
    assert (first.rows[:, :, :, :32] == 1).all()
    assert (first.rows[:, :, :, 32:] == 0).all()
    assert (second.rows == 2).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layers_array_is_the_memory_of_its_slots(dtype: torch.dtype) -> None:
    arena = new_arena(dtype=dtype)
    caches = [SequenceCache(**SIZES, dtype=dtype, device=CPU, arena=arena) for _ in range(3)]
    for cache in caches:
        cache.reserve(50)
        cache.rows.normal_()
    for number in range(SIZES["num_layers"]):
        layer = arena.layer(number)
        assert layer.shape == (2, arena.rows.shape[2], 3, arena.tokens, 8)
        for slot, cache in enumerate(caches):
            assert (layer[:, slot, :, :50] == stored(cache.rows[number, :, :, :50])).all()


@pytest.mark.parametrize("how", ["free", "drop"])
def test_a_slot_that_is_given_back_is_taken_next_and_has_zeros(how: str) -> None:
    arena = new_arena()
    caches = [new_cache(arena) for _ in range(3)]
    for cache in caches:
        cache.reserve(100)
        cache.rows.fill_(torch.nan)
    if how == "free":
        caches[1].free()
        assert caches[1].nbytes == 0
        assert caches[1].slot is None
    else:
        del cache, caches[1]
        gc.collect()
    new = new_cache(arena)
    new.reserve(100)
    assert new.slot == 1
    assert (new.rows == 0).all()
    assert caches[0].rows.isnan().all()


def test_memory_is_taken_for_what_is_held_only() -> None:
    arena = open_arena(num_layers=8, num_kv_heads=4, head_dim=64, context_length=8192, dtype=torch.float32, device=CPU)
    assert arena is not None
    caches = [SequenceCache(num_layers=8, num_kv_heads=4, head_dim=64, dtype=torch.float32, device=CPU, arena=arena)]
    before = resident_bytes()
    caches[0].reserve(512)
    caches[0].rows.fill_(1)
    held = resident_bytes() - before
    caches[0].free()
    left = resident_bytes() - before
    assert caches[0].bytes_for(512) * 0.9 < held < caches[0].bytes_for(512) * 1.2
    assert left < held / 5


def test_what_finds_no_slot_has_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_arena, "MOST_SLOTS", 1)
    arena = new_arena()
    first, second = new_cache(arena), new_cache(arena)
    first.reserve(10)
    second.reserve(10)
    second.rows.fill_(3)
    assert second.slot is None
    first.free()
    second.reserve(40)  # and stays where it is
    assert second.slot is None
    assert (second.rows[:, :, :, :32] == 3).all()


def test_there_is_no_arena_where_addresses_are_short_or_the_device_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert open_arena(**SIZES, context_length=10, dtype=torch.float32, device=torch.device("meta")) is None
    assert open_arena(**SIZES, context_length=10, dtype=torch.float16, device=CPU) is None
    assert open_arena(**SIZES, context_length=10, dtype=torch.float32, device=CPU, most_bytes=1 << 20) is None
    assert open_arena(**SIZES, context_length=1 << 40, dtype=torch.float32, device=CPU) is None

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no addresses")

    monkeypatch.setattr(kv_arena.mmap, "mmap", refuse)
    assert open_arena(**SIZES, context_length=10, dtype=torch.float32, device=CPU) is None
