"""The events of one session that `Resume` can send again: numbered, sent, and not acknowledged [WIRE-092, WIRE-093]."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import NamedTuple

from asynclm.server.token_run import size_of
from asynclm.session.effects import CallSettled, Finished, Report, Tokens
from asynclm.wire.values import Started

ENVELOPE = 256
"""What an event takes beside what is in it, in bytes or so."""

_TEXTS = ("payload", "raw", "arguments", "message", "source", "id")


class TakenReport(NamedTuple):
    """A report with its place in the session's event stream; no more is put to it."""

    sequence: int
    report: Report | Started
    time_ms: int


@dataclass(frozen=True, slots=True)
class KeepLimits:
    """How much of one session is kept before it stops decoding [WIRE-094].

    What comes all the same (answers to its client, results, timers) is kept up to twice as much; then the oldest go.

    Attributes:
        events: events that the client has not acknowledged, sent or not.
        size: what they take, in bytes or so.
    """

    events: int
    size: int


class NotKeptError(LookupError):
    """Events after this number cannot be sent again: they are gone, or have never been sent."""


class KeptEvents:
    """Events by number, without a gap, oldest first; the caller sees to it that one thread uses it at a time."""

    def __init__(self) -> None:
        self._events: collections.deque[TakenReport] = collections.deque()
        self.first = 1
        """The number of the oldest one, or of the next if there is none."""
        self.size = 0
        """What all of them take, in bytes or so."""

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: TakenReport) -> None:
        """Keeps the next event."""
        assert event.sequence == self.first + len(self._events)
        self._events.append(event)
        self.size += bytes_of(event.report)

    def at(self, number: int) -> TakenReport:
        """The event of this number.

        Raises:
            NotKeptError: it is not kept.
        """
        if not self.first <= number < self.first + len(self._events):
            raise NotKeptError(number)
        return self._events[number - self.first]

    def release(self, number: int) -> None:
        """Lets go of everything up to this number, as far as it is there."""
        while self._events and self.first <= number:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Lets go of one event."""
        self.size -= bytes_of(self._events.popleft().report)
        self.first += 1


def bytes_of(report: Report | Started) -> int:
    """About what a report takes in memory; a ledger is kept, and counted, beside the events."""
    if isinstance(report, Tokens):
        return ENVELOPE + size_of(report)
    if isinstance(report, Finished | Started):
        return ENVELOPE
    if isinstance(report, CallSettled):
        return ENVELOPE + len(report.row.payload)
    return ENVELOPE + sum(len(getattr(report, name, None) or "") for name in _TEXTS)
