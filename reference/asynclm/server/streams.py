"""Clients' streams on sessions: how one takes a session up again, what it says, and what its end brings about."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import grpc

from asynclm.engine.loop import EngineLoop
from asynclm.server.attachment import Attachment
from asynclm.server.kept_events import NotKeptError
from asynclm.server.registry import Registry, SessionRecord
from asynclm.session.events import Event, FinishRequested, HalfClosed
from asynclm.session.state import FinishReason
from asynclm.wire.client_events import ResumeAsked
from asynclm.wire.errors import StatusError, session_not_found
from asynclm.wire.values import OnDisconnect, Started


@dataclass(frozen=True, slots=True)
class OpenedStream:
    """A session with a client's stream on it, which `Streams.leave` is told the end of."""

    record: SessionRecord
    started: Started
    attachment: Attachment


class Streams:
    """What happens to sessions through their clients' streams. Lives on the event loop.

    Args:
        registry: the sessions.
        loop: runs them.
        grace_s: how long a session without a stream can be taken up again; 0 for not at all.
    """

    def __init__(self, registry: Registry, loop: EngineLoop, grace_s: float) -> None:
        self._registry = registry
        self._loop = loop
        self._grace_s = grace_s

    @property
    def resumes(self) -> bool:
        """Whether this server offers `Resume`."""
        return self._grace_s > 0

    async def resume(self, asked: ResumeAsked) -> OpenedStream:
        """Takes a session up again, from whoever has it [WIRE-090 to WIRE-098].

        Raises:
            StatusError: the session is not known, or not all that its client lacks is kept.
        """
        record = self._registry.get(asked.session_id)
        if record is None or record.started is None:
            raise session_not_found(asked.session_id)
        try:
            if not record.resumable:
                raise NotKeptError(asked.last_event_seq)
            reader = record.stream.attach(asked.last_event_seq)
        except NotKeptError:
            message = f"what comes after event {asked.last_event_seq} is not kept; GetSession has the ledger"
            raise StatusError(grpc.StatusCode.OUT_OF_RANGE, message, "NOT_KEPT") from None
        if record.attachment is not None:
            record.attachment.supersede()
        if record.grace is not None:
            record.grace.cancel()
            record.grace = None
        record.attachment = attachment = Attachment(reader)
        opened = OpenedStream(record, record.started, attachment)
        try:
            await self.caught_up()
        except BaseException:
            self.leave(opened)
            raise
        record.inputs.settle()
        return opened

    def post_from_client(self, opened: OpenedStream, number: int, event: Event) -> None:
        """Gives a session an event of its client; if it is refused, the stream fails, and later ones are dropped."""
        inputs = opened.record.inputs

        def refuse(error: Exception) -> None:
            inputs.refuse(number)
            opened.attachment.reader.fail(error)

        self._loop.post(opened.record.session_id, event, refuse, unless=lambda: inputs.refusing)

    def half_close(self, record: SessionRecord) -> None:
        """A session's client will say nothing more [SES-082]."""
        self._loop.post(record.session_id, HalfClosed())

    def refuse(self, opened: OpenedStream, error: Exception) -> None:
        """Ends a client's stream for a fault of it, behind all that its earlier events bring [WIRE-035]."""
        self._loop.call(lambda: opened.attachment.reader.fail(error))

    async def caught_up(self) -> None:
        """Returns when the engine has applied everything that it was given so far."""
        await asyncio.wrap_future(self._loop.call(lambda: None))

    def leave(self, opened: OpenedStream) -> None:
        """The client's stream is gone: `on_disconnect` says what becomes of its session [WIRE-016 to WIRE-018]."""
        record, attachment = opened.record, opened.attachment
        attachment.leave()
        if record.attachment is not attachment:
            return  # another stream has taken the session up
        record.attachment = None
        record.stream.detach(attachment.reader)
        if opened.started.on_disconnect is OnDisconnect.CANCEL:
            self._disconnect(record, "")
        elif not record.resumable:
            self.half_close(record)  # nobody can come back to it [WIRE-025]
        if record.resumable:
            record.grace = asyncio.get_running_loop().call_later(self._grace_s, self._end_grace, record)
        else:
            record.stream.discard()

    def _end_grace(self, record: SessionRecord) -> None:
        """Nobody has taken a session up again in time."""
        record.grace, record.resumable = None, False
        record.stream.discard()
        self._disconnect(record, "its client did not take it up again in time")

    def _disconnect(self, record: SessionRecord, message: str) -> None:
        end = FinishRequested(reason=FinishReason.DISCONNECTED, message=message, cancel_pending=True)
        self._loop.post(record.session_id, end)

    def close(self) -> None:
        """No session is ended for want of a stream any more."""
        for record in self._registry.records():
            if record.grace is not None:
                record.grace.cancel()
