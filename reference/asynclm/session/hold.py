"""Holding a safe point back: granularity of text, and the delivery of results [INT-050 to INT-063]."""

from __future__ import annotations

import unicodedata

from asynclm.session.config import DeliveryPolicy, Granularity
from asynclm.session.core import Core
from asynclm.session.queue import Accepted
from asynclm.session.timers import Timer, TimerKind

_SENTENCE_ENDS = frozenset(".!?\n")


class Hold:
    """Decides whether a safe point commits what is queued."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._granularity = core.config.granularity
        self._lazy = core.config.delivery_in_force is DeliveryPolicy.LAZY
        self._boundary = True
        self._last = ""
        self._window: Timer | None = None
        self._window_over = False
        self._request_closed = False

    def text(self, text: str) -> None:
        """Text outside blocks was sampled."""
        if self._granularity is Granularity.TOKEN:
            return
        self._boundary = False
        if self._granularity is Granularity.SENTENCE:
            text = text.rstrip(" ")
        if text:
            self._last = text[-1]

    def boundary(self) -> None:
        """A block closed, an interrupt was committed, or the sequence ended: no text is cut here."""
        self._boundary = True

    def request_closed(self) -> None:
        """A hosted stream was closed: a new request is sent anyway, and takes along what is queued [INT-064]."""
        self._request_closed = True

    def result_accepted(self) -> None:
        """Opens the window with the first result of a batch [INT-053]."""
        core = self._core
        if core.config.coalesce_ms and self._window is None and not self._window_over:
            self._window = core.timers.start(TimerKind.COALESCE, core.now_ms + core.config.coalesce_ms)

    def window_fired(self) -> None:
        """The window is over; the next safe point commits."""
        self._window = None
        self._window_over = True

    def committed(self) -> None:
        """A batch was committed; the next result opens a new window."""
        if self._window is not None:
            self._core.timers.cancel(self._window)
        self._window = None
        self._window_over = False
        self._request_closed = False
        self._boundary = True

    @property
    def gathering(self) -> bool:
        """Whether the window is open, more results can still come, and nobody has spoken [INT-053, INT-061]."""
        return self._window is not None and bool(self._core.calls.unresolved) and not self._core.queue.speaks_now

    def holds(self, batch: list[Accepted], *, waited: bool) -> bool:
        """Whether this safe point leaves the batch in the queue.

        Args:
            batch: what it would commit.
            waited: it follows a trap, DRAINING, IDLE or end of sequence.
        """
        if self._request_closed:
            return False
        if self.gathering or (self._lazy and not waited and not self._core.queue.speaks_now):
            return True
        oldest = min(interrupt.sampled for interrupt in batch)
        if self._boundary or self._core.sampled - oldest >= self._core.config.granularity_hold:
            return False
        if self._granularity is Granularity.WORD:
            return unicodedata.category(self._last)[0] in "LNM"
        return self._last not in _SENTENCE_ENDS
