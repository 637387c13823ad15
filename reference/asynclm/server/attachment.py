"""A client's stream on a session, and how far the session's client events have got over all its streams."""

from __future__ import annotations

import asyncio

import grpc

from asynclm.server.event_stream import Reader
from asynclm.wire.errors import SEQUENCE_GAP, FieldError, StatusError


class Attachment:
    """One stream of `Session` or `Resume` on a session, from its opening to its end. Lives on the event loop.

    Attributes:
        reader: takes the session's events for it.
        listening: reads its client's events.
        superseded: another stream has taken the session up.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.listening: asyncio.Task[None] | None = None
        self.superseded: StatusError | None = None

    def supersede(self) -> None:
        """Another stream has taken the session up: this one ends, and its client is listened to no more [WIRE-096]."""
        message = "another stream has taken the session up"
        self.superseded = StatusError(grpc.StatusCode.ABORTED, message, "SUPERSEDED")
        self.reader.end(self.superseded)
        self.leave()

    def leave(self) -> None:
        """Stops listening to the client."""
        if self.listening is not None:
            self.listening.cancel()


class ClientInputs:
    """The numbers of a session's client events, `Start` being the first [WIRE-030 to WIRE-033].

    Attributes:
        last: the number of the last event that was given to the session.
    """

    def __init__(self) -> None:
        self.last = 1
        self._refused: int | None = None

    def is_next(self, number: int) -> bool:
        """Whether an event has to be given to the session; False if that has been done.

        Raises:
            FieldError: one before it is missing.
        """
        if 0 != number <= self.last:
            return False
        if number != self.last + 1:
            raise FieldError("client_seq", f"is {number}; the next is {self.last + 1}", SEQUENCE_GAP)
        return True

    def refuse(self, number: int) -> None:
        """The session could not take an event; told on the engine's thread. Later ones of its stream are dropped."""
        self._refused = number

    @property
    def refusing(self) -> bool:
        """Whether events are dropped: one before them could not be taken [WIRE-035]."""
        return self._refused is not None

    def settle(self) -> None:
        """Begins anew after the last event that took effect, once the engine has seen all that it was given."""
        if self._refused is not None:
            self.last = self._refused - 1
            self._refused = None
