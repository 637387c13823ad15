"""Threads: kernels run on torch's, as many as torch's, each on a core of its own after an idle while."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest
import torch

from asynclm.engine.torch import kernels, operations, threads
from asynclm.engine.torch.operations import Buffer, gate
from asynclm.engine.torch.threads import IDLE_S, Crew, call_on_own_thread

linux = pytest.mark.skipif(sys.platform != "linux", reason="threads are pinned on Linux only")


@pytest.fixture
def asked_anew() -> Iterator[None]:
    threads.can_share.cache_clear()
    yield
    threads.can_share.cache_clear()


def test_kernels_follow_the_number_of_torchs_threads() -> None:
    if not threads.can_share():
        pytest.skip("there is no OpenMP to share here")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        threads.follow_torch()
        assert numba.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    threads.follow_torch()
    assert numba.get_num_threads() == min(before, numba.config.NUMBA_NUM_THREADS)


@pytest.mark.usefixtures("asked_anew")
def test_without_an_openmp_of_torchs_kernels_run_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.ctypes, "CDLL", lambda _: object())
    assert not threads.can_share()
    threads.follow_torch()
    out = Buffer(torch.zeros((400, 100)))
    gate(torch.ones((400, 200)), out)
    torch.testing.assert_close(out.tensor, torch.full((400, 100), 1 / (1 + math.exp(-1))))
    operations.compile_kernels(torch.float32)


@pytest.mark.usefixtures("asked_anew")
def test_without_a_layer_of_numbas_kernels_run_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        torch.set_num_threads(1)
        raise ValueError("No threading layer could be loaded.")

    monkeypatch.setattr(kernels, "touch", refuse)
    before = torch.get_num_threads()
    assert not threads.can_share()
    assert torch.get_num_threads() == before


@pytest.mark.usefixtures("asked_anew")
def test_a_layer_that_somebody_has_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "THREADING_LAYER", "workqueue")
    monkeypatch.setattr(numba, "threading_layer", lambda: "workqueue")
    assert not threads.can_share()
    assert numba.config.THREADING_LAYER == "workqueue"


def test_what_is_called_on_its_own_thread_comes_back_when_that_has_ended() -> None:
    before = threading.active_count()
    assert call_on_own_thread(lambda: threading.current_thread().name) == "asynclm-loading"
    assert threading.active_count() == before

    def fail() -> None:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        call_on_own_thread(fail)


class Pins:
    """Takes the place of `kernels.pin`, with two cores and as many threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, result: int = 0) -> None:
        self.now = 0.0
        self.seen: list[list[int]] = []
        self._result = result
        monkeypatch.setattr(kernels, "pin", self.pin)
        monkeypatch.setattr(threads, "can_share", lambda: True)
        monkeypatch.setattr(threads, "follow_torch", lambda: None)
        monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 64}, raising=False)

    def pin(self, sets: Any, results: Any) -> None:
        self.seen.append([sum(int(word) << 64 * place for place, word in enumerate(row)) for row in sets])
        results[1] = self._result


@linux
def test_after_an_idle_while_threads_are_kept_apart_for_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = Pins(monkeypatch)
    crew = Crew(lambda: pins.now)
    with crew.at_work():
        assert pins.seen == [[1 << 3, 1 << 64]]
    everywhere = [1 << 3 | 1 << 64] * 2
    assert pins.seen == [[1 << 3, 1 << 64], everywhere]
    pins.now += IDLE_S / 2
    with crew.at_work():
        pins.now += 1.0
    assert len(pins.seen) == 2
    pins.now += IDLE_S * 2
    with pytest.raises(RuntimeError, match="given up"), crew.at_work():
        raise RuntimeError("given up")
    assert pins.seen[2:] == [[1 << 3, 1 << 64], everywhere]


@linux
def test_what_must_not_be_pinned_is_let_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = Pins(monkeypatch, result=-1)
    with Crew(lambda: pins.now).at_work():
        pass
    assert len(pins.seen) == 1


@pytest.mark.parametrize("where", ["another system", "one thread", "fewer threads", "no threads to share"])
def test_the_scheduler_has_its_way_where_threads_are_no_match_for_the_cores(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = Pins(monkeypatch)
    changes: dict[str, Callable[[], None]] = {
        "another system": lambda: monkeypatch.setattr(sys, "platform", "darwin"),
        "one thread": lambda: monkeypatch.setattr(numba, "get_num_threads", lambda: 1),
        "fewer threads": lambda: monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False),
        "no threads to share": lambda: monkeypatch.setattr(threads, "can_share", lambda: False),
    }
    changes[where]()
    with Crew(lambda: pins.now).at_work():
        pass
    assert pins.seen == []


@linux
def test_threads_are_free_again_after_a_step() -> None:
    before = os.sched_getaffinity(0)
    with Crew().at_work():
        inside = os.sched_getaffinity(0)
    assert inside <= before
    assert os.sched_getaffinity(0) == before
    if not threads.can_share():
        return
    results = np.full(numba.get_num_threads(), -1, np.int32)
    kernels.pin(np.zeros((len(results), 1), np.uint64), results)  # no core at all is refused
    assert results.all()
    assert os.sched_getaffinity(0) == before
