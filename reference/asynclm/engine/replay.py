"""What a hosted model says again at the start of a request that was begun anew, told from what is new [SES-120].

Text alone is looked at, before it is parsed or counted. Calls said again in other words are the machine's part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from asynclm.cml.control import Control

LEAST_CHARACTERS = 16
"""Shorter repetitions pass: they are too likely to be meant."""

MOST_CHARACTERS = 8_192
"""How far back what was said is looked at, and the most that is held back."""

_CONTROL = re.compile("|".join(re.escape(control.value) for control in Control))
_NAMED_CALL = re.compile(r"\[CALL\]\s*[A-Za-z_][A-Za-z0-9_]{0,63}\s*\[HEAD\]")


@dataclass(frozen=True, slots=True)
class SaidAgain:
    """Text that repeats what was said, and is taken for unsaid."""

    text: str


class ReplayFilter:
    """Holds back the beginning of an answer as long as it repeats an ending of what was said.

    A repetition begins where a word does, with `LEAST_CHARACTERS` of text or with a named call, and ends where what was
    said ended. Whatever turns out to be anything else comes out whole.

    Args:
        said: all that the model had said when the request was begun.
    """

    def __init__(self, said: str) -> None:
        self._said = said[-MOST_CHARACTERS:]
        self._starts = [start for start in range(len(self._said)) if self._can_start(start)]
        self._pieces: list[str] = []

    def _can_start(self, start: int) -> bool:
        said = self._said
        if len(said) - start < LEAST_CHARACTERS or said[start].isspace():
            return False
        if start and said[start - 1].isalnum() and said[start].isalnum():
            return False
        control = _CONTROL.search(said, start)
        if control is None or control.start() - start >= LEAST_CHARACTERS:
            return True
        return _NAMED_CALL.match(said, start) is not None

    def feed(self, piece: str) -> list[str | SaidAgain]:
        """Takes a piece; gives what is decided by now, in order."""
        if not self._starts and not self._pieces:
            return [piece]
        self._pieces.append(piece)
        heard = "".join(self._pieces).lstrip()
        length = len(heard)
        self._starts = [
            start
            for start in self._starts
            if self._said.startswith(heard, start) or heard.startswith(self._said[start : start + length])
        ]
        if any(len(self._said) - start > length for start in self._starts):
            return []
        return self.finish()

    def finish(self) -> list[str | SaidAgain]:
        """Nothing more comes, or nothing more is to be held back: gives what was."""
        pieces, self._pieces = self._pieces, []
        starts, self._starts = self._starts, []
        text = "".join(pieces)
        heard = text.lstrip()
        again = max((len(self._said) - start for start in starts if heard.startswith(self._said[start:])), default=0)
        if not again:
            return list(pieces)
        length = len(text) - len(heard) + again
        decided: list[str | SaidAgain] = [SaidAgain(text[:length])]
        for piece in pieces:
            rest = piece[length:] if length < len(piece) else ""
            length = max(0, length - len(piece))
            if rest:
                decided.append(rest)
        return decided

    @property
    def held(self) -> str:
        """What is held back."""
        return "".join(self._pieces)
