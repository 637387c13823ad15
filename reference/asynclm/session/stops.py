"""Stop strings: found in running text as it comes, in whatever pieces [SES-100, SES-101]."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class StopStrings:
    """Looks for several strings in one run of text; each character is looked at once (Aho and Corasick, 1975).

    The text's longest ending that a stop string begins with is held back, so that what is given out never has a part of
    one. Where several end at the same character, the longest is found.

    Args:
        stops: the strings, none of them empty.
    """

    __slots__ = ("_depths", "_fallbacks", "_found", "_held", "_next", "_node")

    def __init__(self, stops: Sequence[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._depths = [0]
        self._found: list[str | None] = [None]
        for stop in stops:
            self._add(stop)
        self._fallbacks = [0] * len(self._next)
        self._link()
        self._node = 0
        self._held = ""

    def _add(self, stop: str) -> None:
        node = 0
        for char in stop:
            if char not in self._next[node]:
                self._next[node][char] = len(self._next)
                self._next.append({})
                self._depths.append(self._depths[node] + 1)
                self._found.append(None)
            node = self._next[node][char]
        self._found[node] = stop

    def _link(self) -> None:
        """Gives each node, breadth first, its longest proper ending that is a node, and what ends there."""
        waiting = deque(self._next[0].values())
        while waiting:
            node = waiting.popleft()
            for char, child in self._next[node].items():
                self._fallbacks[child] = self._step(self._fallbacks[node], char)
                waiting.append(child)
            self._found[node] = self._found[node] or self._found[self._fallbacks[node]]

    def _step(self, node: int, char: str) -> int:
        while node and char not in self._next[node]:
            node = self._fallbacks[node]
        return self._next[node].get(char, 0)

    @property
    def pending(self) -> bool:
        """Whether text is held back."""
        return bool(self._held)

    def feed(self, text: str) -> tuple[str, str | None]:
        """Takes the next piece of the run.

        Returns:
            The text that is given out, and the stop string that ends it, or None. What stands behind a stop string in
            the same piece is dropped, and a new run begins.
        """
        node = self._node
        for place, char in enumerate(text, 1):
            node = self._step(node, char)
            found = self._found[node]
            if found is not None:
                run = self._held + text[:place]
                self._node, self._held = 0, ""
                return run[: len(run) - len(found)], found
        run = self._held + text
        kept = len(run) - self._depths[node]
        self._node, self._held = node, run[kept:]
        return run[:kept], None

    def flush(self) -> str:
        """Ends the run and gives out what was held back."""
        held = self._held
        self._node, self._held = 0, ""
        return held
