"""Every session that the server knows: open ones with their event streams, finished ones with their ledgers."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from asynclm.engine.running import TimedReport
from asynclm.session.effects import Finished, StateChanged, Tokens, TrapEntered, TrapExited
from asynclm.session.state import State
from asynclm.wire.values import SessionTimings


@dataclass(frozen=True, slots=True)
class NumberedReport:
    """A report with its place in the session's event stream."""

    sequence: int
    timed: TimedReport


class EventStream:
    """One session's reports on their way from the loop's thread to the client, numbered from 2 (`Started` is 1).

    Neighbouring `Tokens` that nobody has taken yet are merged, so that a slow client costs no memory per token.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, observe: Callable[[Sequence[TimedReport]], None]) -> None:
        self._loop = loop
        self._observe = observe
        self._waiting: collections.deque[NumberedReport] = collections.deque()
        self._arrived = asyncio.Event()
        self._fault: Exception | None = None
        self._read = True
        self.last_sequence = 1

    def sink(self, reports: Sequence[TimedReport]) -> None:
        """Takes reports on the loop's thread."""
        # The event loop may be gone while the server stops; there is nobody left to tell then.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, tuple(reports))

    def fail(self, fault: Exception) -> None:
        """Makes the reader raise `fault` next; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._fail, fault)

    def discard(self) -> None:
        """Nobody reads any more: what comes from now on is not kept."""
        self._read = False
        self._waiting.clear()

    def _fail(self, fault: Exception) -> None:
        self._fault = fault
        self._arrived.set()

    def _deliver(self, reports: tuple[TimedReport, ...]) -> None:
        self._observe(reports)
        for timed in reports:
            last = self._waiting[-1] if self._waiting else None
            if last is not None and (merged := _merge(last.timed, timed)) is not None:
                self._waiting[-1] = NumberedReport(last.sequence, merged)
                continue
            self.last_sequence += 1
            if self._read:
                self._waiting.append(NumberedReport(self.last_sequence, timed))
        self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[NumberedReport]:
        """Reports as they come; ends after `Finished`. One reader at a time."""
        while True:
            if self._fault is not None:
                raise self._fault
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            numbered = self._waiting.popleft()
            yield numbered
            if isinstance(numbered.timed.report, Finished):
                return


def _merge(earlier: TimedReport, later: TimedReport) -> TimedReport | None:
    """One `Tokens` out of two neighbours, or None where one has to end first ([WIRE] events end at control tokens)."""
    a, b = earlier.report, later.report
    if not isinstance(a, Tokens) or not isinstance(b, Tokens):
        return None
    if a.control is not None or a.end_of_sequence or a.in_block is not b.in_block:
        return None
    if a.token_index + len(a.ids) != b.token_index or bool(a.logprobs) != bool(b.logprobs):
        return None
    merged = dataclasses.replace(
        b, token_index=a.token_index, ids=a.ids + b.ids, text=a.text + b.text, logprobs=a.logprobs + b.logprobs
    )
    return TimedReport(merged, later.time_ms)


class SessionClock:
    """Where one session's time went, read off its reports."""

    def __init__(self) -> None:
        self._first_token_ms: int | None = None
        self._suspended_since: int | None = None
        self._suspended_ms = 0
        self._now_ms = 0

    def feed(self, timed: TimedReport) -> None:
        """Takes the next report."""
        self._now_ms = timed.time_ms
        match timed.report:
            case Tokens() if self._first_token_ms is None:
                self._first_token_ms = timed.time_ms
            case TrapEntered() | StateChanged(state=State.DRAINING | State.IDLE):
                self._suspended_since = timed.time_ms
            case TrapExited() | StateChanged() | Finished():
                self._suspended_ms += self._waited()
                self._suspended_since = None

    @property
    def timings(self) -> SessionTimings:
        """The times, in milliseconds of the session clock."""
        return SessionTimings(
            first_token_ms=self._first_token_ms,
            total_ms=self._now_ms,
            suspended_ms=self._suspended_ms + self._waited(),
        )

    def _waited(self) -> int:
        return 0 if self._suspended_since is None else self._now_ms - self._suspended_since


class SessionRecord:
    """What the server knows of one session, running or finished."""

    def __init__(self, session_id: str, model: str, labels: Mapping[str, str]) -> None:
        self.session_id = session_id
        self.model = model
        self.labels = dict(labels)
        self.stream = EventStream(asyncio.get_running_loop(), self._observe)
        self.started_at = time.time()
        self.attached = True
        self._clock = SessionClock()
        self.finished: Finished | None = None
        self.done = asyncio.Event()

    def _observe(self, reports: Sequence[TimedReport]) -> None:
        for timed in reports:
            self._clock.feed(timed)
            if isinstance(timed.report, Finished):
                self.finished = timed.report
                self.done.set()

    @property
    def timings(self) -> SessionTimings:
        """Where the session's time went, so far."""
        return self._clock.timings


class Registry:
    """Sessions by id. Finished ones are kept, oldest dropped first. Lives on the event loop."""

    def __init__(self, *, max_sessions: int, keep_finished: int) -> None:
        self._records: dict[str, SessionRecord] = {}
        self._max_sessions = max_sessions
        self._keep_finished = keep_finished

    @property
    def open_sessions(self) -> list[SessionRecord]:
        """Sessions that have not finished."""
        return [r for r in self._records.values() if r.finished is None]

    @property
    def full(self) -> bool:
        """Whether another session would be over the limit."""
        return len(self.open_sessions) >= self._max_sessions

    def records(self) -> list[SessionRecord]:
        """Every session known, oldest first."""
        return list(self._records.values())

    def get(self, session_id: str) -> SessionRecord | None:
        """The session of this id, or None."""
        return self._records.get(session_id)

    def add(self, model: str, labels: Mapping[str, str]) -> SessionRecord:
        """Makes room and a record for a new session, with an id that cannot be guessed."""
        finished = [r for r in self._records.values() if r.finished is not None]
        for record in finished[: max(0, len(finished) - self._keep_finished + 1)]:
            del self._records[record.session_id]
        session_id = f"s-{secrets.token_urlsafe(16)}"
        record = SessionRecord(session_id, model, labels)
        self._records[session_id] = record
        return record

    def remove(self, session_id: str) -> None:
        """Forgets a session that could not be opened."""
        self._records.pop(session_id, None)
