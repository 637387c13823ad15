"""One session's reports on their way from the engine's thread to the client: merged, numbered, and never too many."""

from __future__ import annotations

import asyncio
import collections
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from asynclm.engine.running import TimedReport
from asynclm.server.token_run import TokenRun, size_of
from asynclm.session.effects import CallSettled, Finished, Probed, Report, Tokens

MOST_UNREAD = 4 << 20
"""What may wait for a client that does not read, in bytes or so, before its session has to wait too [WIRE-061]."""

MOST_PROBES = 1_000
"""Probes of one session that may wait for their answers; more are not read from the stream until some have one."""

_ENVELOPE = 256
"""What an event takes beside what is in it, or so."""
_TEXTS = ("payload", "raw", "arguments", "message", "source", "id")


class TakenReport(NamedTuple):
    """A report with its place in the session's event stream; no more is put to it."""

    sequence: int
    report: Report
    time_ms: int


@dataclass(frozen=True, slots=True)
class _Whole:
    """A report that nothing is put to."""

    report: Report
    time_ms: int
    size: int


_Waiting: TypeAlias = TokenRun | _Whole | Exception


class EventStream:
    """Takes reports on the engine's thread and gives them to one reader, numbered from 2 (`Started` is 1).

    Neighbouring `Tokens` that the reader has not taken yet are put into one event; it gets its number when it is taken,
    so that a reader that keeps up waits for nothing. What has been made and not been read is counted; where it is too
    much, the session stops decoding [WIRE-061] and nothing more is read from its client, until there is room.

    Args:
        loop: the event loop of the reader.
        observe: sees every report but `Tokens` after the first, in order and at once, on the event loop.
        make_room: called, on the event loop, when a session that was told to wait may go on.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        observe: Callable[[Sequence[TimedReport]], None],
        make_room: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._observe = observe
        self._make_room = make_room
        self._lock = threading.Lock()  # guards everything up to `_decoded`
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._tail: TokenRun | None = None
        self._unread = 0
        self._unseen: list[TimedReport] = []
        self._asleep = False
        self._called = False
        self._kept = True
        self._holding = False
        self._reading = 0
        self._taken = 1
        self._dropped = 0
        self._decoded = False
        self._arrived = asyncio.Event()  # from here on the event loop alone
        self._moved = asyncio.Event()
        self._probes = 0

    @property
    def last_sequence(self) -> int:
        """The number of the last event, as it stands."""
        with self._lock:
            return self._taken + self._dropped + sum(not isinstance(entry, Exception) for entry in self._waiting)

    # --- from the engine's thread ----------------------------------------------------------------------------

    def sink(self, reports: Sequence[TimedReport]) -> bool:
        """Takes reports on the engine's thread; tells whether the reader is too far behind."""
        with self._lock:
            for timed in reports:
                self._put(timed)
            wake = not self._called and (self._asleep or bool(self._unseen))
            if wake:
                self._called = True
            behind = self._kept and self._unread > MOST_UNREAD
            if behind:
                self._holding = True
        # The event loop may be gone while the server stops; there is nobody left to tell then.
        return (not wake or self._call(self._wake)) and behind

    def _put(self, timed: TimedReport) -> None:
        report, time_ms = timed.report, timed.time_ms
        if type(report) is not Tokens:
            self._unseen.append(timed)
            self._tail = None
            self._append(_Whole(report, time_ms, _size(report)))
            return
        if not self._decoded:
            self._decoded = True
            self._unseen.append(timed)
        size = size_of(report)
        tail = self._tail
        if tail is not None and tail.add(report, time_ms, size):
            if self._kept:
                self._unread += size
            return
        self._tail = run = TokenRun(report, time_ms, _ENVELOPE + size)
        self._append(run)

    def _append(self, entry: TokenRun | _Whole) -> None:
        if self._kept:
            self._waiting.append(entry)
            self._unread += entry.size
        else:
            self._dropped += 1

    def fail(self, fault: Exception) -> None:
        """Makes the reader raise `fault`, after what has been made so far; may be called from any thread."""
        self._call(self._fail, fault)

    def _call(self, function: Callable[..., None], *arguments: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the event loop is closed
            return False
        return True

    # --- on the event loop -----------------------------------------------------------------------------------

    def discard(self) -> None:
        """Nobody reads any more: what waits and what comes from now on is not kept."""
        with self._lock:
            self._kept = False
            self._tail = None
            self._dropped += sum(not isinstance(entry, Exception) for entry in self._waiting)
            self._waiting.clear()
            self._unread = 0
        self._ease()

    def asked(self) -> None:
        """The client has sent a probe."""
        self._probes += 1

    async def room(self) -> None:
        """Waits until the client has read enough to be listened to again, and its probes have been answered."""
        while self._kept and (self._unread > MOST_UNREAD or self._probes > MOST_PROBES):
            self._moved.clear()
            await self._moved.wait()

    def _fail(self, fault: Exception) -> None:
        with self._lock:
            if not self._kept:
                return
            self._kept = False
            self._tail = None
            self._waiting.append(fault)
        self._arrived.set()
        self._ease()

    def _wake(self) -> None:
        """Something has come for the reader, or for those who look on."""
        with self._lock:
            self._called = self._asleep = False
            unseen, self._unseen = self._unseen, []
        self._show(unseen)
        self._arrived.set()

    def _show(self, unseen: Sequence[TimedReport]) -> None:
        self._probes -= sum(type(timed.report) is Probed for timed in unseen)
        self._observe(unseen)
        if not self._moved.is_set():
            self._moved.set()

    def _ease(self) -> None:
        """What waits has become less: lets those go on who wait for that."""
        self._moved.set()
        with self._lock:  # a sink that is at work has said by the end of it whether it holds the session
            free = self._holding and (not self._kept or self._unread <= MOST_UNREAD // 2)
            self._holding = self._holding and not free
        if free:
            self._make_room()

    def take(self) -> TakenReport | None:
        """The next event, or None if there is none yet; whoever takes one has read the one before it.

        Raises:
            Exception: what `fail` was given.
        """
        unseen: Sequence[TimedReport] = ()
        with self._lock:
            if self._kept:
                self._unread -= self._reading
            self._reading = 0
            if self._unseen:
                unseen, self._unseen = self._unseen, []
            if self._waiting:
                entry = self._waiting.popleft()
                if not self._waiting:
                    self._tail = None
                if isinstance(entry, Exception):
                    raise entry
                self._reading = entry.size
                self._taken += 1
            else:
                entry = None
                self._asleep = True
                self._arrived.clear()
        if unseen:
            self._show(unseen)
        if self._holding or not self._moved.is_set():
            self._ease()
        return None if entry is None else TakenReport(self._taken, entry.report, entry.time_ms)

    async def arrival(self) -> None:
        """Waits for something to take."""
        await self._arrived.wait()


def _size(report: Report) -> int:
    """About what a report takes in memory; `Finished` is the last, so that holding anything back is of no use."""
    if isinstance(report, Finished):
        return _ENVELOPE
    if isinstance(report, CallSettled):
        return _ENVELOPE + len(report.row.payload)
    return _ENVELOPE + sum(len(getattr(report, name, None) or "") for name in _TEXTS)
