"""What shows a session: the seam between what happens and how it looks."""

from __future__ import annotations

from typing import Protocol

from asynclm.wire.values import ReceivedEvent


class View(Protocol):
    """Shows one session as it goes."""

    def event(self, event: ReceivedEvent, at_ms: float) -> None:
        """Shows a server event that arrived so many milliseconds after the session was asked for."""
        ...

    def tick(self, at_ms: float) -> None:
        """Brings what moves by itself (running calls, rates) up to date."""
        ...

    def held(self, why: str | None) -> None:
        """Says that decoding is held by the client, and why (paused, out of credit); None: not any more."""
        ...

    def note(self, text: str) -> None:
        """Says something about the session that is no event of it."""
        ...

    def close(self) -> None:
        """Leaves the screen in order. Nothing is shown after this."""
        ...
