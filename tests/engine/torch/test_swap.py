"""Swapped KV caches come back bit for bit, whatever is put, freed and put again; a full disk is told in time."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asynclm.engine.torch.swap import Extents, FileSwap, SwapFullError, SwapHandle, open_swap, swap_folder

CPU = torch.device("cpu")


def rows(tokens: int, *, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> torch.Tensor:
    """A cache of the engine's shape with random content."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((2, 2, 3, tokens, 8), generator=generator).to(dtype)


@pytest.fixture
def store(tmp_path: Path) -> FileSwap:
    return FileSwap(tmp_path, minimum_free=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_what_is_put_comes_back_bit_for_bit(store: FileSwap, dtype: torch.dtype) -> None:
    put = [rows(tokens, dtype=dtype, seed=tokens) for tokens in (1, 700, 33)]
    handles = [store.put(r) for r in put]
    for handle, r in zip(handles, put, strict=True):
        got = store.get(handle)
        assert got.dtype is dtype
        assert got.shape == r.shape
        assert torch.equal(got, r)
        assert torch.equal(store.get(handle), r), "it stays until it is freed"


def test_a_part_of_a_larger_cache_can_be_put(store: FileSwap) -> None:
    cache = rows(512)
    handle = store.put(cache[:, :, :, :100])
    assert torch.equal(store.get(handle), cache[:, :, :, :100])
    assert store.nbytes == cache[:, :, :, :100].numel() * 2


def test_an_empty_cache_can_be_put(store: FileSwap) -> None:
    handles = [store.put(rows(0)), store.put(rows(3)), store.put(rows(0))]
    assert [store.get(handle).shape[3] for handle in handles] == [0, 3, 0]


def test_what_is_put_is_a_copy(store: FileSwap) -> None:
    given_away = rows(10)
    before = given_away.clone()
    handle = store.put(given_away)
    given_away.zero_()
    assert torch.equal(store.get(handle), before)


def test_freed_bytes_are_not_held_and_unknown_handles_are_ignored(store: FileSwap) -> None:
    first, second = store.put(rows(10)), store.put(rows(20))
    assert store.nbytes == rows(30).nbytes
    store.free(first)
    store.free(first)
    store.free(SwapHandle(99))
    assert store.nbytes == rows(20).nbytes
    store.free(second)
    assert store.nbytes == 0
    with pytest.raises(KeyError):
        store.get(first)


def test_the_file_shrinks_when_its_end_is_freed(store: FileSwap) -> None:
    handles = [store.put(rows(4000, seed=n)) for n in range(3)]
    full = os.fstat(store._descriptor).st_size
    store.free(handles[1])
    assert os.fstat(store._descriptor).st_size == full
    store.free(handles[2])
    assert os.fstat(store._descriptor).st_size < full / 2
    assert torch.equal(store.get(handles[0]), rows(4000, seed=0))


def test_a_place_that_is_free_is_used_before_the_file_grows(store: FileSwap) -> None:
    handles = [store.put(rows(4000, seed=n)) for n in range(3)]
    full = os.fstat(store._descriptor).st_size
    store.free(handles[0])
    again = store.put(rows(4000, seed=7))
    assert os.fstat(store._descriptor).st_size == full
    assert torch.equal(store.get(again), rows(4000, seed=7))
    assert torch.equal(store.get(handles[1]), rows(4000, seed=1))


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path: Path) -> None:
    free = 1 << 20
    store = FileSwap(tmp_path, free_bytes=lambda _: free, minimum_free=1 << 19)
    kept = store.put(rows(1000))
    with pytest.raises(SwapFullError, match="No space left"):
        store.put(rows(10_000))
    assert torch.equal(store.get(kept), rows(1000)), "what was there is still there"
    store.free(kept)
    store.put(rows(1000))


def test_a_disk_that_fills_up_while_it_is_written_to_is_told(store: FileSwap, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store.put(rows(1000))
    written = itertools.count()
    real = os.pwrite

    def pwrite(descriptor: int, data: memoryview, start: int) -> int:
        if next(written):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[:100], start)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", pwrite)
        with pytest.raises(SwapFullError):
            store.put(rows(2000, seed=2))
    assert store.nbytes == rows(1000).nbytes
    assert torch.equal(store.get(store.put(rows(2000, seed=3))), rows(2000, seed=3))
    assert torch.equal(store.get(kept), rows(1000))


def test_writes_and_reads_that_stop_halfway_go_on(store: FileSwap, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda fd, data, start: write(fd, data[:999], start))
    monkeypatch.setattr(os, "preadv", lambda fd, parts, start: read(fd, [parts[0][:777]], start))
    assert torch.equal(store.get(store.put(rows(50))), rows(50))


def test_a_file_that_lost_its_end_is_an_error_of_the_disk(store: FileSwap) -> None:
    handle = store.put(rows(50))
    os.ftruncate(store._descriptor, 10)
    with pytest.raises(OSError, match="shorter"):
        store.get(handle)


@pytest.mark.slow  # a process imports torch
def test_nothing_is_left_in_the_folder_while_it_is_used_nor_after_a_kill(tmp_path: Path) -> None:
    source = (
        "import os, signal, sys, torch; from pathlib import Path; from asynclm.engine.torch.swap import FileSwap\n"
        "store = FileSwap(Path(sys.argv[1])); store.put(torch.zeros(100))\n"
        "print(os.listdir(sys.argv[1]), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ran = subprocess.run([sys.executable, "-c", source, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.returncode == -9, ran.stderr
    assert ran.stdout.strip() == "[]"
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_swap(CPU, tmp_path / "missing")


def test_the_folder_is_the_environments_or_a_durable_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert swap_folder() == tmp_path
    monkeypatch.delenv("TMPDIR")
    assert swap_folder() == Path("/var/tmp")
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert swap_folder() == tmp_path


class ExtentsMachine(RuleBasedStateMachine):
    """Places never overlap, holes are used, and everything freed leaves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.extents = Extents()
        self.taken: dict[int, int] = {}

    @rule(size=st.integers(1, 9))
    def take(self, size: int) -> None:
        end = self.extents.end
        holes = self.holes(end)
        start = self.extents.take(size)
        assert start not in self.taken
        self.taken[start] = size
        if any(hole >= size for hole in holes):
            assert self.extents.end == end, "there was a hole for it"

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        start = data.draw(st.sampled_from(sorted(self.taken)))
        self.extents.give_back(start, self.taken.pop(start))

    def holes(self, end: int) -> list[int]:
        edges = [0, *itertools.chain.from_iterable((s, s + n) for s, n in sorted(self.taken.items())), end]
        return [b - a for a, b in zip(edges[::2], edges[1::2], strict=True)]

    @invariant()
    def places_are_apart_and_the_end_is_the_last_ones(self) -> None:
        places = sorted(self.taken.items())
        assert all(a + n <= b for (a, n), (b, _) in itertools.pairwise(places))
        assert self.extents.end == max((start + size for start, size in places), default=0)


TestExtents = ExtentsMachine.TestCase
TestExtents.settings = settings(max_examples=40, stateful_step_count=30)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=30))
def test_any_order_of_puts_and_frees_keeps_the_rest(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, bool]]
) -> None:
    store = FileSwap(tmp_path_factory.getbasetemp(), minimum_free=0)
    held: dict[SwapHandle, torch.Tensor] = {}
    for number, (tokens, drop) in enumerate(moves):
        r = rows(tokens * 40, seed=number)
        held[store.put(r)] = r
        if drop:
            oldest = next(iter(held))
            store.free(oldest)
            del held[oldest]
    for handle, r in held.items():
        assert torch.equal(store.get(handle), r)
    assert store.nbytes == sum(r.nbytes for r in held.values())
    store.close()
    assert store.nbytes == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_pinned_main_memory() -> None:
    device = torch.device("cuda")
    store = open_swap(device)
    put = rows(300).to(device)
    expected = put.clone()
    handle = store.put(put)
    put.zero_()
    got = store.get(handle)
    assert got.device.type == "cuda"
    assert torch.equal(got, expected)
    assert store.nbytes == got.nbytes
    store.free(handle)
    assert store.nbytes == 0
