"""Every session that the server knows: open ones with their event streams, finished ones with their ledgers."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence

from asynclm.engine.running import TimedReport
from asynclm.server.attachment import Attachment, ClientInputs
from asynclm.server.event_stream import EventStream
from asynclm.server.kept_events import KeepLimits
from asynclm.session.effects import Finished, StateChanged, Tokens, TrapEntered, TrapExited
from asynclm.session.events import OutputHeld
from asynclm.session.state import State
from asynclm.wire.values import SessionTimings, Started

Tell = Callable[[str, OutputHeld], None]
"""Gives a session, by its id, an event of its stream."""


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
    """What the server knows of one session, running or finished.

    Attributes:
        stream: its events on their way to the client.
        started: what its client was told first; None while it is being opened.
        attachment: the client's stream that carries it; None while it is detached.
        resumable: whether it can be taken up again, now or once it is detached.
        inputs: how far its client's events have got.
        grace: ends the time in which it can be taken up again; None while it is attached, and once that is over.
        finished: its last event, or None; `done` is set by then, and for a session that could not be opened.
    """

    def __init__(
        self, session_id: str, model: str, labels: Mapping[str, str], tell: Tell, keep: KeepLimits | None
    ) -> None:
        self.session_id = session_id
        self.model = model
        self.labels = dict(labels)
        loop = asyncio.get_running_loop()
        self.stream = EventStream(loop, self._observe, lambda held: tell(session_id, held), keep)
        self.resumable = keep is not None
        self.inputs = ClientInputs()
        self.started: Started | None = None
        self.attachment: Attachment | None = None
        self.grace: asyncio.TimerHandle | None = None
        self.started_at = time.time()
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
    def attached(self) -> bool:
        """Whether a client's stream carries it."""
        return self.attachment is not None

    @property
    def timings(self) -> SessionTimings:
        """Where the session's time went, so far."""
        return self._clock.timings

    @property
    def kept_bytes(self) -> int:
        """About what it takes once it has finished: its ledger, and its events while it can be resumed."""
        if self.finished is None:
            return 0
        calls, interrupts = self.finished.calls, self.finished.interrupts
        ledger = sum(len(row.payload) for row in calls) + sum(len(row.payload) for row in interrupts)
        return ledger + self.stream.kept_bytes


class Registry:
    """Sessions by id. Finished ones are kept, oldest dropped first. Lives on the event loop.

    Args:
        max_sessions: sessions open at once.
        keep_finished: finished sessions that are kept.
        keep_bytes: what their ledgers and events take together; the last one is kept, whatever its size.
        tell: tells a session that its client reads, or acknowledges, again.
    """

    def __init__(self, *, max_sessions: int, keep_finished: int, keep_bytes: int, tell: Tell) -> None:
        self._records: dict[str, SessionRecord] = {}
        self._max_sessions = max_sessions
        self._keep_finished = keep_finished
        self._keep_bytes = keep_bytes
        self._tell = tell

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

    def add(self, model: str, labels: Mapping[str, str], keep: KeepLimits | None = None) -> SessionRecord:
        """Makes room and a record for a new session, with an id that cannot be guessed."""
        self._drop_oldest()
        session_id = f"s-{secrets.token_urlsafe(16)}"
        record = SessionRecord(session_id, model, labels, self._tell, keep)
        self._records[session_id] = record
        return record

    def remove(self, session_id: str) -> None:
        """Forgets a session that could not be opened."""
        record = self._records.pop(session_id, None)
        if record is not None:
            record.done.set()  # nobody waits for its end

    def _drop_oldest(self) -> None:
        """Forgets finished sessions beyond what is kept, this time's newcomer counted in."""
        finished = [(r.session_id, r.kept_bytes) for r in self._records.values() if r.finished is not None]
        total = sum(size for _, size in finished)
        for place, (session_id, size) in enumerate(finished):
            left = len(finished) - place
            if left < self._keep_finished and (total <= self._keep_bytes or left == 1):
                break
            del self._records[session_id]
            total -= size
