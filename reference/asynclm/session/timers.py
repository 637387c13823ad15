"""Timers on the session clock: call time-outs, trap time-outs, the coalescing window, idle time."""

from __future__ import annotations

import enum
import heapq
from dataclasses import dataclass


class TimerKind(enum.Enum):
    """What a timer ends."""

    CALL = "call"
    TRAP = "trap"
    COALESCE = "coalesce"
    IDLE = "idle"


@dataclass(frozen=True, slots=True, order=True)
class Timer:
    """A timer; ordered by due time, then by creation [SCR-022]."""

    due_ms: int
    number: int
    kind: TimerKind
    call_index: int = -1


class Timers:
    """The running timers of one session.

    Attributes:
        next_due_ms: when the next timer is due; None if none runs. Kept up to date, since each step asks for it.
    """

    def __init__(self) -> None:
        self.next_due_ms: int | None = None
        self._heap: list[tuple[int, int]] = []
        self._running: dict[int, Timer] = {}
        self._count = 0

    def start(self, kind: TimerKind, due_ms: int, call_index: int = -1) -> Timer:
        """Starts a timer that is due at an absolute time."""
        timer = Timer(due_ms, self._count, kind, call_index)
        self._count += 1
        self._running[timer.number] = timer
        heapq.heappush(self._heap, (due_ms, timer.number))
        self._find_next()
        return timer

    def cancel(self, timer: Timer) -> None:
        """Stops a timer; one that has fired or was stopped is ignored."""
        self._running.pop(timer.number, None)
        self._find_next()

    def pop_due(self, now_ms: int) -> Timer | None:
        """Takes the next timer that is due by `now_ms`, if any."""
        due = self.next_due_ms
        if due is None or due > now_ms:
            return None
        timer = self._running.pop(heapq.heappop(self._heap)[1])
        self._find_next()
        return timer

    def clear(self) -> None:
        """Stops every timer."""
        self._running.clear()
        self._find_next()

    def _find_next(self) -> None:
        """Drops what was stopped from the top of the heap."""
        while self._heap and self._heap[0][1] not in self._running:
            heapq.heappop(self._heap)
        self.next_due_ms = self._heap[0][0] if self._heap else None
