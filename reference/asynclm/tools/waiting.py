"""The order in which waiting calls start: longest processing time first (paper §6.3)."""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, TypeVar

T = TypeVar("T")


class LongestFirst(Generic[T]):
    """Items by expected duration, longest first; those of equal duration first in, first out.

    Starting the longest call first gives the shortest makespan for independent calls (paper, theorem 6.3). A call of
    unknown duration comes last.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, T]] = []
        self._removed: set[int] = set()
        self._numbers = itertools.count()

    def push(self, item: T, expected_duration_ms: int | None) -> int:
        """Adds an item.

        Returns:
            Its ticket, for `remove`.
        """
        ticket = next(self._numbers)
        heapq.heappush(self._heap, (-(expected_duration_ms or 0), ticket, item))
        return ticket

    def pop(self) -> T | None:
        """Takes the next item, or None if nothing waits."""
        while self._heap:
            _, ticket, item = heapq.heappop(self._heap)
            if ticket not in self._removed:
                return item
            self._removed.discard(ticket)
        return None

    def remove(self, ticket: int) -> None:
        """Takes out an item that has not been popped."""
        self._removed.add(ticket)

    def __len__(self) -> int:
        return len(self._heap) - len(self._removed)
