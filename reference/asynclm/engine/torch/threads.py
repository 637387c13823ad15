"""torch's own threads, and compiled kernels on them.

numba's OpenMP layer takes the OpenMP library that is in the process's global scope, which is the one that torch has
brought along. Where it would bring a second library, whose threads would take turns with torch's, or where there is
none, kernels run on one thread.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

import numba
import numpy as np
import torch

from asynclm.engine.torch import kernels

T = TypeVar("T")

log = logging.getLogger(__name__)

IDLE_S = 0.02
"""After so long without work, a core may be taken for one that is gone."""

LAYER = "omp"
"""numba's name for OpenMP."""


@functools.cache
def can_share() -> bool:
    """Whether kernels can run on torch's threads; starts numba's layer, once in a process."""
    if not hasattr(ctypes.CDLL(None), "GOMP_parallel"):
        return False
    if numba.config.THREADING_LAYER == "default":
        numba.config.THREADING_LAYER = LAYER
    threads = torch.get_num_threads()
    try:
        kernels.touch(np.zeros(1, np.float32))
    except ValueError as error:  # no such layer here: libgomp is not installed
        log.info("kernels run on one thread: %s", error)
        return False
    finally:
        torch.set_num_threads(threads)  # which the layer has set to its own
    return bool(numba.threading_layer() == LAYER)


def use_threads(count: int) -> None:
    """Lets torch compute with so many threads, here and on each thread that computes later for the first time."""
    torch.set_num_threads(count)


def call_on_own_thread(function: Callable[[], T]) -> T:
    """Calls a function on a thread of its own, and returns when that thread has ended.

    Each thread that computes has a crew of OpenMP's, which lives as long as it does. Where crews are more than there
    are cores, OpenMP lets none of them wait for work awake. So models are loaded on a thread that ends, and the
    engine's is the only one with a crew.

    Raises:
        BaseException: what the function raises.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, name="asynclm-loading", daemon=True)
    thread.start()
    result = future.result()
    thread.join()
    return result


def follow_torch() -> None:
    """From now on, kernels that this thread calls run on as many threads as torch's operations do."""
    if can_share():
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))


class Crew:
    """The threads that compute for one thread, itself among them; each thread that asks has its own.

    They sleep between any two operations, for the sake of others who want the cores. After an idle while, the scheduler
    of a virtual machine takes a sleeping core for one that its host has given away, and wakes all of them on their
    waker's core, where they take turns: a step of 34 tokens took 40 ms instead of 27. So for the first step after a
    while they are pinned to a core each, if they are as many as the cores; then they stay there by themselves, and are
    free to make room for others.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._own = threading.local()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While this lasts, the calling thread computes."""
        follow_torch()
        pins = self._clock() - getattr(self._own, "since", -math.inf) > IDLE_S and self._pin(apart=True)
        try:
            yield
        finally:
            if pins:
                self._pin(apart=False)
            self._own.since = self._clock()

    def _pin(self, *, apart: bool) -> bool:
        """Pins each thread to a core of its own, or to all; False if they are fewer or more, or must not be pinned."""
        if sys.platform != "linux" or not can_share():
            return False
        cores = sorted(os.sched_getaffinity(0)) if apart else self._own.cores
        if not 1 < numba.get_num_threads() == len(cores):
            return False
        self._own.cores = cores
        sets = np.zeros((len(cores), cores[-1] // 64 + 1), np.uint64)
        for thread, core in enumerate(cores):
            sets[thread if apart else slice(None), core // 64] |= np.uint64(1 << core % 64)
        results = np.zeros(len(cores), np.int32)
        kernels.pin(sets, results)
        return not results.any()


crew = Crew()
