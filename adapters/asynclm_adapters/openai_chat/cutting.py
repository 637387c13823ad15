"""Cuts a hosted stream into pieces, so that nothing stands behind a control word in one [WIRE-074]."""

from __future__ import annotations

import re

from asynclm.cml.control import Control

_WORD = re.compile("|".join(re.escape(control.value) for control in Control))
_LONGEST = max(len(control.value) for control in Control)


class Cutter:
    """Takes deltas as they come and gives pieces; a control word can be split over any number of deltas."""

    def __init__(self) -> None:
        self._before = ""

    def cut(self, delta: str) -> list[str]:
        """The pieces of the next delta, in order; joined they are the delta."""
        text = self._before + delta
        pieces: list[str] = []
        start = len(self._before)
        for word in _WORD.finditer(text):
            if word.end() > start:
                pieces.append(text[start : word.end()])
                start = word.end()
        if start < len(text):
            pieces.append(text[start:])
        last = max((word.end() for word in _WORD.finditer(text)), default=0)
        self._before = text[last:][-(_LONGEST - 1) :]
        return pieces
