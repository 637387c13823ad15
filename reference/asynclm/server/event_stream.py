"""One session's events on their way from the engine's thread to its client, and never too many of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from asynclm.engine.running import TimedReport
from asynclm.server.backlog import Backlog
from asynclm.server.kept_events import KeepLimits, TakenReport
from asynclm.session.effects import Probed, Tokens
from asynclm.session.events import OutputHeld
from asynclm.wire.values import Started

MOST_UNREAD = 4 << 20
"""What may wait for a client that does not read, in bytes or so, before its session has to wait too [WIRE-061]."""

MOST_PROBES = 1_000
"""Probes of one session that may wait for their answers; more are not read from the stream until some have one."""

_FREE = OutputHeld(held=False)
_UNREAD = OutputHeld(held=True)
_UNACKNOWLEDGED = OutputHeld(held=True, until_ack=True)


class Reader:
    """One client's stream of a session's events, from its opening to its end. Lives on the event loop."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self._fault: tuple[int, Exception] | None = None
        self.arrived = asyncio.Event()

    def take(self) -> TakenReport | None:
        """The next event, or None if there is none yet; whoever takes one has read the one before it.

        Raises:
            Exception: what `fail` or `end` was given.
        """
        if self._fault is not None and self._stream.position > self._fault[0]:
            raise self._fault[1]
        return self._stream.take(self)

    @property
    def read_all(self) -> bool:
        """Whether there is nothing to take for now."""
        return self._stream.position > self._stream.last_sequence

    async def arrival(self) -> None:
        """Waits for something to take."""
        await self.arrived.wait()

    def fail(self, fault: Exception) -> None:
        """Makes the reader raise `fault`, after what has been made so far; may be called from any thread."""
        self._stream.on_event_loop(self._fail, fault)

    def _fail(self, fault: Exception) -> None:
        if self._fault is None:
            self._fault = (self._stream.end_event(), fault)
            self.arrived.set()

    def end(self, fault: Exception) -> None:
        """Makes the reader raise `fault` in place of the next event."""
        self._fault = (-1, fault)
        self.arrived.set()


class EventStream:
    """Takes reports on the engine's thread and gives them to one reader at a time, numbered from 1, which is `Started`.

    A reader that keeps up waits for nothing; one that does not gets fewer, longer events. What has been made and not
    been read is counted, and what has not been acknowledged; where it is too much, the session stops decoding
    [WIRE-061, WIRE-094]. Where too much is unread, nothing more is read from its client either, until there is room.

    Args:
        loop: the event loop of the readers.
        observe: sees every report but `Tokens` after the first, in order and at once, on the event loop.
        tell: gives the session an event of its own, on the event loop: that it may go on.
        keep: how much is kept to be sent again; None for nothing.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        observe: Callable[[Sequence[TimedReport]], None],
        tell: Callable[[OutputHeld], None],
        keep: KeepLimits | None = None,
    ) -> None:
        self._loop = loop
        self._observe = observe
        self._tell = tell
        self._lock = threading.Lock()  # guards everything up to `_decoded`
        self._backlog = Backlog(keep)
        self._reader: Reader | None = None
        self._unseen: list[TimedReport] = []
        self._asleep = False
        self._called = False
        self._told = _FREE
        self._decoded = False
        self._moved = asyncio.Event()  # from here on the event loop alone
        self._probes = 0

    @property
    def last_sequence(self) -> int:
        """The number of the last event, as it stands."""
        with self._lock:
            return self._backlog.last

    @property
    def sent(self) -> int:
        """The number of the last event that has been given to a reader."""
        return self._backlog.taken

    @property
    def kept_bytes(self) -> int:
        """About what its events take."""
        with self._lock:
            return self._backlog.size

    # --- from the engine's thread ----------------------------------------------------------------------------

    def sink(self, reports: Sequence[TimedReport]) -> OutputHeld | None:
        """Takes reports on the engine's thread; tells whether the session has to wait for its client."""
        with self._lock:
            for timed in reports:
                if type(timed.report) is not Tokens or not self._decoded:
                    self._decoded = self._decoded or type(timed.report) is Tokens
                    self._unseen.append(timed)
                self._backlog.put(timed)
            wake = not self._called and (self._asleep or bool(self._unseen))
            if wake:
                self._called = True
            held = self._held()
            if held.held:
                self._told = held
        if wake and not self.on_event_loop(self._wake):
            return None  # the event loop is gone while the server stops: there is nobody to wait for
        return held if held.held else None

    def _held(self) -> OutputHeld:
        """What the session ought to be told."""
        if self._backlog.beyond(1):
            return _UNACKNOWLEDGED
        return _UNREAD if self._reader is not None and self._backlog.unread > MOST_UNREAD else _FREE

    def on_event_loop(self, function: Callable[..., None], *arguments: object) -> bool:
        """Has a function called there; False if the event loop is closed."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return False
        return True

    # --- on the event loop -----------------------------------------------------------------------------------

    def announce(self, started: Started) -> None:
        """Puts the first event before everything that has come already."""
        with self._lock:
            self._backlog.announce(started)

    def attach(self, after: int = 0) -> Reader:
        """A reader of what comes after an event, in place of the one there was.

        Raises:
            NotKeptError: not all of that can be sent; the reader that there was reads on.
        """
        with self._lock:
            self._backlog.attach(after)
            self._asleep = False
            self._reader = Reader(self)
            return self._reader

    def detach(self, reader: Reader) -> None:
        """A reader has gone; what comes from now on waits for the next one."""
        if self._reader is not reader:
            return
        with self._lock:
            self._backlog.detach()
            self._asleep = False
            self._reader = None
        self._ease()

    def discard(self) -> None:
        """Nobody will read any more: nothing is kept, neither what there is nor what comes from now on."""
        with self._lock:
            self._backlog.discard()
            self._reader = None
        self._ease()

    def acknowledge(self, number: int) -> bool:
        """The client need not be sent events up to this one again; False if it has never been sent it."""
        with self._lock:
            known = self._backlog.release(number)
        self._ease()
        return known

    def asked(self) -> None:
        """The client has sent a probe."""
        self._probes += 1

    async def room(self) -> None:
        """Waits until the client has read enough to be listened to again, and its probes have been answered."""
        while self._reader is not None and (self._backlog.unread > MOST_UNREAD or self._probes > MOST_PROBES):
            self._moved.clear()
            await self._moved.wait()

    @property
    def position(self) -> int:
        """The number of the event that the reader takes next; 0 without one."""
        return self._backlog.position or 0

    def place(self) -> tuple[int, int]:
        """The token index and the time at which the reader's next event stands, or will."""
        with self._lock:
            return self._backlog.place()

    def end_event(self) -> int:
        """Nothing more is put to the last event; gives its number."""
        with self._lock:
            return self._backlog.end_event()

    def _wake(self) -> None:
        """Something has come for the reader, or for those who look on."""
        with self._lock:
            self._called = self._asleep = False
            unseen, self._unseen = self._unseen, []
        self._show(unseen)
        if self._reader is not None:
            self._reader.arrived.set()

    def _show(self, unseen: Sequence[TimedReport]) -> None:
        self._probes -= sum(type(timed.report) is Probed for timed in unseen)
        self._observe(unseen)
        if not self._moved.is_set():
            self._moved.set()

    def _ease(self) -> None:
        """What waits has become less: lets those go on who wait for that."""
        self._moved.set()
        with self._lock:  # a sink that is at work has said by the end of it whether it holds the session
            held = self._held()
            if held is _FREE and self._told is _UNREAD and self._reader is not None:
                held = _UNREAD if self._backlog.unread > MOST_UNREAD // 2 else _FREE
            changed = self._told.held and held is not self._told
            if changed:
                self._told = held
        if changed:
            self._tell(held)

    def take(self, reader: Reader) -> TakenReport | None:
        """The next event of the reader, or None if there is none yet."""
        unseen: Sequence[TimedReport] = ()
        with self._lock:
            if self._unseen:
                unseen, self._unseen = self._unseen, []
            event = self._backlog.take()
            if event is None:
                self._asleep = True
                reader.arrived.clear()
        if unseen:
            self._show(unseen)
        if self._told.held or not self._moved.is_set():
            self._ease()
        return event
