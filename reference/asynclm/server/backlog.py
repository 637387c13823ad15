"""One session's events in the order of their numbers: those that nobody has been sent yet, and those that are kept."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import TypeAlias

from asynclm.engine.running import TimedReport
from asynclm.server.kept_events import ENVELOPE, KeepLimits, KeptEvents, NotKeptError, TakenReport, bytes_of
from asynclm.server.token_run import TokenRun, size_of
from asynclm.session.effects import InterruptCommitted, Report, Tokens
from asynclm.wire.values import Started


@dataclass(frozen=True, slots=True)
class _Whole:
    """A report that nothing is put to."""

    report: Report | Started
    time_ms: int
    size: int


_Waiting: TypeAlias = TokenRun | _Whole


class Backlog:
    """Merges, numbers and keeps events; the caller sees to it that one thread uses it at a time.

    Neighbouring `Tokens` that have not been taken yet are put into one event; it gets its number when it is taken, and
    does not change any more. What has been taken is kept until it is acknowledged, if it is to be kept.

    Args:
        limits: how much is kept to be sent again; None for nothing.

    Attributes:
        unread: what the reader has not read yet, in bytes or so, kept events aside.
        taken: the number of the last event that has been given one.
        position: the number of the event that the reader takes next; None if nobody reads.
    """

    def __init__(self, limits: KeepLimits | None) -> None:
        self._limits = limits
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._tail: TokenRun | None = None
        self._kept = KeptEvents()
        self._newest: TimedReport | None = None
        self._reading = 0
        self._gone = False
        self.unread = 0
        self.taken = 0
        self.position: int | None = None

    @property
    def last(self) -> int:
        """The number of the last event, as it stands."""
        return self.taken + len(self._waiting)

    @property
    def first(self) -> int:
        """The number of the oldest event that can be taken."""
        return self._kept.first if self._kept else self.taken + 1

    @property
    def size(self) -> int:
        """About what all events take, in bytes."""
        return self._kept.size + self.unread - self._reading

    # --- what comes ------------------------------------------------------------------------------------------

    def announce(self, started: Started) -> None:
        """Puts the first event before everything that has come already."""
        self._waiting.appendleft(_Whole(started, 0, ENVELOPE))
        self.unread += ENVELOPE

    def put(self, timed: TimedReport) -> None:
        """Takes the next report."""
        report, time_ms = timed.report, timed.time_ms
        self._newest = timed
        if type(report) is not Tokens:
            self._tail = None
            self._append(_Whole(report, time_ms, bytes_of(report)))
            return
        size = size_of(report)
        tail = self._tail
        if tail is not None and tail.add(report, time_ms, size):
            if not self._gone:
                self.unread += size
            return
        self._tail = run = TokenRun(report, time_ms, ENVELOPE + size)
        self._append(run)

    def _append(self, entry: _Waiting) -> None:
        if self._gone:
            self.taken += 1
            return
        self._waiting.append(entry)
        self.unread += entry.size
        while self.beyond(2) and self._drop_oldest():
            pass

    def end_event(self) -> int:
        """Nothing more is put to the last event; gives its number."""
        self._tail = None
        return self.last

    def beyond(self, times: int) -> bool:
        """Whether so many times what is to be kept has been reached."""
        limits = self._limits
        if limits is None or self._gone:
            return False
        events = len(self._kept) + len(self._waiting)
        return events >= times * limits.events or self.size >= times * limits.size

    def _drop_oldest(self) -> bool:
        """Lets go of an event that has been sent, or of any if nobody reads; False if there is none."""
        if self.position is None and not self._kept and len(self._waiting) > 1:
            self.unread -= self._waiting[0].size
            self._number()
        if not self._kept or (self.position is not None and self._kept.first >= self.position):
            return False
        self._kept.drop_oldest()
        return True

    # --- what goes -------------------------------------------------------------------------------------------

    def attach(self, after: int) -> None:
        """Someone is to read what comes after an event, in place of whoever has read so far.

        Raises:
            NotKeptError: not all of that is there, or that event has not been sent; nothing has changed.
        """
        if not self.first <= after + 1 <= self.taken + 1:
            raise NotKeptError(after)
        self.detach()
        self.position = after + 1

    def detach(self) -> None:
        """Nobody reads any more, for now."""
        self.position = None
        self.unread -= self._reading
        self._reading = 0

    def take(self) -> TakenReport | None:
        """The reader's next event, or None if there is none yet; whoever takes one has read the one before it."""
        assert self.position is not None
        self.unread -= self._reading
        self._reading = 0
        if self.position <= self.taken:
            self.position = max(self.position, self.first)  # what it has acknowledged it has
        if self.position <= self.taken:
            event = self._kept.at(self.position)
        elif self._waiting:
            self._reading = self._waiting[0].size
            event = self._number()
        else:
            return None
        self.position += 1
        return event

    def _number(self) -> TakenReport:
        """Gives the oldest event that waits its number, and keeps it."""
        entry = self._waiting.popleft()
        if not self._waiting:
            self._tail = None
        self.taken += 1
        event = TakenReport(self.taken, entry.report, entry.time_ms)
        if self._limits is not None:
            self._kept.add(event)
        return event

    def release(self, number: int) -> bool:
        """Events up to this one need not be sent again; False if it has never been sent."""
        if number > self.taken:
            return False
        self._kept.release(number)
        return True

    def discard(self) -> None:
        """Nothing is kept any more, neither what there is nor what comes; numbers are counted on."""
        self.detach()
        self._gone = True
        self._tail = None
        self.taken = self.last
        self._waiting.clear()
        self._kept = KeptEvents()
        self.unread = 0

    def place(self) -> tuple[int, int]:
        """The token index and the time at which the reader's next event stands, or will."""
        assert self.position is not None
        if self.position <= self.taken:
            event: TakenReport | _Waiting = self._kept.at(self.position)
        elif self._waiting:
            event = self._waiting[0]
        elif self._newest is not None:
            report = self._newest.report
            ids = report.ids if isinstance(report, Tokens | InterruptCommitted) else ()
            return report.token_index + len(ids), self._newest.time_ms
        else:
            return 0, 0
        return (0 if isinstance(event.report, Started) else event.report.token_index), event.time_ms
