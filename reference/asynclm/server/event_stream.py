"""One session's reports on their way from the engine's thread to the client: numbered, merged, and never too many."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from asynclm.engine.running import TimedReport
from asynclm.session.effects import CallSettled, Finished, Probed, Report, Tokens

MOST_UNREAD = 4 << 20
"""What may wait for a client that does not read, in bytes or so, before its session has to wait too [WIRE-061]."""

MOST_PROBES = 1_000
"""Probes of one session that may wait for their answers; more are not read from the stream until some have one."""

LONGEST_RUN = 256
"""Tokens that are merged into one event at most."""

_ENVELOPE = 64
_TEXTS = ("payload", "raw", "arguments", "message", "text", "source", "id")


@dataclass(frozen=True, slots=True)
class NumberedReport:
    """A report with its place in the session's event stream."""

    sequence: int
    timed: TimedReport
    size: int


class EventStream:
    """Takes reports on the engine's thread and gives them to one reader, numbered from 2 (`Started` is 1).

    Neighbouring `Tokens` that nobody has taken yet are merged. What has been made and not been read is counted; where
    it is too much, the session stops decoding [WIRE-061] and nothing more is read from its client, until there is room.

    Args:
        loop: the event loop of the reader.
        observe: sees every report first, on the event loop.
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
        self._waiting: collections.deque[NumberedReport | Exception] = collections.deque()
        self._arrived = asyncio.Event()
        self._moved = asyncio.Event()
        self._kept = True
        self._made = 0  # changed on the engine's thread only
        self._gone = 0  # changed on the event loop only
        self._holding = False
        self._probes = 0
        self.last_sequence = 1

    # --- from the engine's thread ----------------------------------------------------------------------------

    def sink(self, reports: Sequence[TimedReport]) -> bool:
        """Takes reports on the engine's thread; tells whether the reader is too far behind."""
        self._made += sum(_size(timed.report) for timed in reports)
        # The event loop may be gone while the server stops; there is nobody left to tell then.
        if not self._call(self._deliver, tuple(reports)):
            return False
        if self._kept and self._unread > MOST_UNREAD:
            self._holding = True
            return True
        return False

    def fail(self, fault: Exception) -> None:
        """Makes the reader raise `fault`, after what has been made so far; may be called from any thread."""
        self._call(self._fail, fault)

    def _call(self, function: Callable[..., None], argument: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, argument)
        except RuntimeError:  # the event loop is closed
            return False
        return True

    # --- on the event loop -----------------------------------------------------------------------------------

    @property
    def _unread(self) -> int:
        return self._made - self._gone

    def discard(self) -> None:
        """Nobody reads any more: what waits and what comes from now on is not kept."""
        self._kept = False
        self._waiting.clear()
        self._gone = self._made
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
        if self._kept:
            self._kept = False
            self._waiting.append(fault)
            self._arrived.set()
            self._ease()

    def _deliver(self, reports: tuple[TimedReport, ...]) -> None:
        self._observe(reports)
        for timed in reports:
            self._number(timed)
        self._arrived.set()

    def _number(self, timed: TimedReport) -> None:
        size = _size(timed.report)
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, NumberedReport) and (merged := _merge(last.timed, timed)) is not None:
            self._waiting[-1] = NumberedReport(last.sequence, merged, last.size + size)
            return
        self.last_sequence += 1
        if isinstance(timed.report, Probed):
            self._probes -= 1
        if self._kept:
            self._waiting.append(NumberedReport(self.last_sequence, timed, size))
        else:
            self._gone += size

    def _ease(self) -> None:
        """What waits has become less: lets those go on who wait for that."""
        self._moved.set()
        if self._holding and (not self._kept or self._unread <= MOST_UNREAD // 2):
            self._holding = False
            self._make_room()

    async def __aiter__(self) -> AsyncIterator[NumberedReport]:
        """Reports as they come; ends after `Finished`. One reader at a time.

        Raises:
            Exception: what `fail` was given.
        """
        while True:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            numbered = self._waiting.popleft()
            if isinstance(numbered, Exception):
                raise numbered
            yield numbered
            self._gone += numbered.size
            self._ease()
            if isinstance(numbered.timed.report, Finished):
                return


def _size(report: Report) -> int:
    """About what a report takes in memory; `Finished` is the last, so that holding anything back is of no use."""
    if isinstance(report, Finished):
        return _ENVELOPE
    if isinstance(report, CallSettled):
        return _ENVELOPE + len(report.row.payload)
    return _ENVELOPE + sum(len(getattr(report, name, None) or "") for name in _TEXTS)


def _merge(earlier: TimedReport, later: TimedReport) -> TimedReport | None:
    """One `Tokens` out of two neighbours, or None where one has to end first [WIRE-055]."""
    a, b = earlier.report, later.report
    if not isinstance(a, Tokens) or not isinstance(b, Tokens):
        return None
    if a.control is not None or a.end_of_sequence or a.in_block is not b.in_block or len(a.ids) >= LONGEST_RUN:
        return None
    if a.token_index + len(a.ids) != b.token_index or bool(a.logprobs) != bool(b.logprobs):
        return None
    merged = dataclasses.replace(
        b,
        token_index=a.token_index,
        ids=a.ids + b.ids,
        text=a.text + b.text,
        logprobs=a.logprobs + b.logprobs,
        ranks=a.ranks + b.ranks,
        top_logprobs=a.top_logprobs + b.top_logprobs,
    )
    return TimedReport(merged, later.time_ms)
