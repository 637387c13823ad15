"""Neighbouring `Tokens` that nobody has taken yet, and the one event that they make [WIRE-055, WIRE-064]."""

from __future__ import annotations

from asynclm.session.effects import Tokens

LONGEST_RUN = 256
"""Tokens that are put into one event at most."""

_ID_BYTES = 16
_LOGPROB_BYTES = 32
_ALTERNATIVE_BYTES = 128


class TokenRun:
    """One `Tokens` event in the making.

    Attributes:
        time_ms: when the last of it was made.
        size: about what it takes, in bytes.
    """

    __slots__ = (
        *("_first", "_ids", "_last", "_logprobs", "_next_index", "_open", "_ranks", "_texts", "_top"),
        *("size", "time_ms"),
    )

    def __init__(self, first: Tokens, time_ms: int, size: int) -> None:
        self._first = self._last = first
        self._ids: list[int] | None = None
        self.time_ms = time_ms
        self.size = size
        self._next_index = first.token_index + len(first.ids)
        self._open = first.control is None and not first.end_of_sequence

    def add(self, later: Tokens, time_ms: int, size: int) -> bool:
        """Takes the next report; False where the event has to end before it."""
        last = self._last
        if (
            not self._open
            or later.token_index != self._next_index
            or later.in_block is not last.in_block
            or not _alike(last, later)
        ):
            return False
        ids = self._ids
        if ids is None:
            first = self._first
            ids = self._ids = list(first.ids)
            self._texts = [first.text]
            self._logprobs = list(first.logprobs)
            self._ranks = list(first.ranks)
            self._top = list(first.top_logprobs)
        elif len(ids) >= LONGEST_RUN:
            return False
        ids += later.ids
        self._texts.append(later.text)
        if later.logprobs:
            self._logprobs += later.logprobs
            self._ranks += later.ranks
            self._top += later.top_logprobs
        if later.ids:
            self._last = later
        self.time_ms = time_ms
        self.size += size
        self._next_index += len(later.ids)
        self._open = later.control is None and not later.end_of_sequence
        return True

    @property
    def report(self) -> Tokens:
        """The event's content."""
        first, last = self._first, self._last
        if self._ids is None:
            return first
        return Tokens(
            token_index=first.token_index,
            ids=tuple(self._ids),
            text="".join(self._texts),
            control=last.control,
            end_of_sequence=last.end_of_sequence,
            logprobs=tuple(self._logprobs),
            ranks=tuple(self._ranks),
            top_logprobs=tuple(self._top),
            in_block=first.in_block,
        )


def _alike(last: Tokens, later: Tokens) -> bool:
    """Whether both have the same columns beside their ids; text that is given up has no ids."""
    if not later.ids:
        return True
    return (
        bool(last.logprobs) == bool(later.logprobs)
        and bool(last.ranks) == bool(later.ranks)
        and bool(last.top_logprobs) == bool(later.top_logprobs)
    )


def size_of(tokens: Tokens) -> int:
    """About what a report adds to the event that it is put into, in bytes of memory."""
    size = len(tokens.text) + _ID_BYTES * len(tokens.ids)
    if tokens.logprobs:
        size += _LOGPROB_BYTES * len(tokens.logprobs)
        size += sum(_ALTERNATIVE_BYTES * len(top) for top in tokens.top_logprobs)
    return size
