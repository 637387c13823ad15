"""Stop sequences: text up to the first of them, held back where one may have begun."""

from __future__ import annotations

from collections.abc import Sequence


class StopFilter:
    """Passes text on until a stop sequence; the sequence itself never passes."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = tuple(s for s in sequences if s)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Takes text; returns what may pass now, and whether a stop sequence has ended the reply."""
        text = self._held + text
        found = [at for s in self._sequences if (at := text.find(s)) >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
        keep = max((_overlap(text, s) for s in self._sequences), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """What was held back, at the end of the reply."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, sequence: str) -> int:
    """Length of the longest end of `text` that a stop sequence begins with."""
    longest = min(len(text), len(sequence) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(sequence[:n])), 0)
