"""Clocks: the time replies are paced by, so that tests need not wait for it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        ...

    async def sleep_until(self, deadline: float) -> None:
        """Returns at a deadline, or at once where it is past; always lets other tasks run."""
        ...


class WallClock:
    """The event loop's time."""

    def now(self) -> float:
        """The loop's time, in seconds."""
        return asyncio.get_running_loop().time()

    async def sleep_until(self, deadline: float) -> None:
        """Sleeps what is left until the deadline."""
        await asyncio.sleep(max(0.0, deadline - self.now()))


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self._now = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._changed = asyncio.Event()

    def now(self) -> float:
        """Seconds that it has been moved by."""
        return self._now

    async def sleep_until(self, deadline: float) -> None:
        """Waits until the clock has been moved to the deadline."""
        if deadline <= self._now:
            await asyncio.sleep(0)
            return
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (deadline, next(self._order), wake))
        self._changed.set()
        await wake

    async def next_deadline(self) -> float:
        """Waits until something sleeps, and says until when."""
        while True:
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)
            if self._sleepers:
                return self._sleepers[0][0]
            self._changed.clear()
            await self._changed.wait()

    def advance(self, seconds: float) -> None:
        """Moves the clock and wakes what is due."""
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            wake = heapq.heappop(self._sleepers)[2]
            if not wake.done():
                wake.set_result(None)
