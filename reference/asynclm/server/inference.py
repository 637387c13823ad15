"""The data plane: `Inference.Session`, `Inference.Resume` and `Inference.Generate` over the hub."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from asynclm.server.context import Context
from asynclm.server.hub import SessionHub
from asynclm.server.streams import OpenedStream
from asynclm.server.unreadable import unreadable
from asynclm.session.effects import Finished
from asynclm.session.errors import RemoteProtocolError
from asynclm.session.events import ProbeRequested
from asynclm.v1 import inference_pb2, inference_pb2_grpc, session_pb2
from asynclm.wire.client_events import AckReceived, ClientInput, ResumeAsked, client_event_from_pb
from asynclm.wire.errors import BAD_EVENT, SEQUENCE_GAP, FieldError, StatusError, WireError, abort, field_fault
from asynclm.wire.reports import to_server_event
from asynclm.wire.start import StartRequest, start_from_pb
from asynclm.wire.values import OnDisconnect, Resumed

log = logging.getLogger(__name__)

MOST_AHEAD = 256 << 10
"""Bytes of one client's events that may wait for the engine; then no more are read until they have been applied."""

BREAK_OFF_S = 0.05
"""What the end of a client's events waits before it is taken for a half-close.

gRPC ends them first where a stream breaks off, too, and tells of the break a moment later, by cancelling the handler:
seen within 0.4 ms on an idle machine and 4 ms on a busy one, over 800 streams that were cancelled or closed.
"""

EVENT_BYTES = 256
"""What an event takes beside its message, or so."""


class InferenceService(inference_pb2_grpc.InferenceServicer):
    """Runs sessions for clients."""

    def __init__(self, hub: SessionHub) -> None:
        self._hub = hub

    async def Session(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[session_pb2.ClientEvent], context: Context
    ) -> None:
        """One session on one stream [WIRE-010 to WIRE-021]."""
        try:
            opened = await self._hub.open(await self._read_start(request_iterator))
        except Exception as error:
            await _abort(context, error)
        await self._converse(opened, request_iterator, context)

    async def Resume(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[session_pb2.ClientEvent], context: Context
    ) -> None:
        """A session on another stream [WIRE-090 to WIRE-099]."""
        if not self._hub.streams.resumes:
            message = "this server cannot resume sessions; see GetSession for the ledger of a dropped one"
            await abort(context, StatusError(grpc.StatusCode.UNIMPLEMENTED, message, "NO_RESUME"))
        try:
            opened = await self._hub.streams.resume(await self._read_resume(request_iterator))
        except Exception as error:
            await _abort(context, error)
        await self._converse(opened, request_iterator, context, resumed=True)

    async def Generate(  # type: ignore[override]  # noqa: N802
        self, request: inference_pb2.GenerateRequest, context: Context
    ) -> None:
        """A session that takes no further client events."""
        try:
            start = await _read(request.start)
            _check_generate(start)
            # Cancelling the rpc ends the session, whatever the start says [WIRE-102].
            start = dataclasses.replace(start, on_disconnect=OnDisconnect.CANCEL)
            opened = await self._hub.open(start, resumable=False)
        except Exception as error:
            await _abort(context, error)
        self._hub.streams.half_close(opened.record)
        await self._converse(opened, None, context)

    async def _converse(
        self,
        opened: OpenedStream,
        requests: AsyncIterator[session_pb2.ClientEvent] | None,
        context: Context,
        *,
        resumed: bool = False,
    ) -> None:
        """Carries a session's events both ways until it or the stream is over."""
        try:
            if resumed and opened.attachment.superseded is None:
                await _send_resumed(opened, context)
            if requests is not None and opened.attachment.superseded is None:
                opened.attachment.listening = asyncio.create_task(self._read_events(requests, opened))
            await _send_events(opened, context)
        except (grpc.aio.UsageError, grpc.aio.InternalError) as error:
            log.info("session %s: its stream is broken: %s", opened.record.session_id, error)
        except Exception as error:
            await _abort(context, error)
        finally:
            self._hub.streams.leave(opened)

    async def _read_start(self, requests: AsyncIterator[session_pb2.ClientEvent]) -> StartRequest:
        first = await self._read_first(requests, "start")
        if first.client_seq != 1:
            raise FieldError("client_seq", f"is {first.client_seq}; the next is 1", SEQUENCE_GAP)
        return await _read(first.start)

    async def _read_resume(self, requests: AsyncIterator[session_pb2.ClientEvent]) -> ResumeAsked:
        first = await self._read_first(requests, "resume")
        if first.client_seq != 0:
            raise FieldError("client_seq", f"is {first.client_seq}; that of resume is 0", SEQUENCE_GAP)
        asked = client_event_from_pb(first)
        assert isinstance(asked, ResumeAsked)
        return asked

    async def _read_first(self, requests: AsyncIterator[session_pb2.ClientEvent], kind: str) -> session_pb2.ClientEvent:
        """The first event of a stream, which is of one kind, and comes soon."""
        seconds = self._hub.options.limits.start_timeout_s
        try:
            async with asyncio.timeout(seconds):
                first = await anext(requests)
        except StopAsyncIteration:
            raise FieldError(kind, "is missing: the stream ended before its first event") from None
        except TimeoutError:
            message = f"no {kind} within {seconds:g} s of the opening of the stream"
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, message, "START_TIMEOUT") from None
        which = first.WhichOneof("event")
        if which != kind:
            rpc = "Session" if kind == "start" else "Resume"
            raise FieldError("event", f"is {which or 'empty'}; the first event of {rpc} is {kind}", BAD_EVENT)
        return first

    async def _read_events(self, requests: AsyncIterator[session_pb2.ClientEvent], opened: OpenedStream) -> None:
        """Passes the client's events on, no faster than they are applied and answered; its faults end the stream."""
        ahead = 0
        inputs = opened.record.inputs
        try:
            async for pb in requests:
                if not inputs.is_next(pb.client_seq):
                    continue
                self._apply(client_event_from_pb(pb), pb.client_seq, opened)
                inputs.last = pb.client_seq
                ahead += pb.ByteSize() + EVENT_BYTES
                if ahead > MOST_AHEAD:
                    await self._hub.streams.caught_up()
                    ahead = 0
                await opened.record.stream.room()
            await asyncio.sleep(BREAK_OFF_S)
            self._hub.streams.half_close(opened.record)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._hub.streams.refuse(opened, error)

    def _apply(self, event: ClientInput, number: int, opened: OpenedStream) -> None:
        stream = opened.record.stream
        match event:
            case StartRequest() | ResumeAsked():
                raise FieldError("event", "is a second start; a stream carries one session", BAD_EVENT)
            case AckReceived(sequence=sequence):
                if not stream.acknowledge(sequence):
                    raise FieldError("ack.sequence", f"is {sequence}; the last event sent is {stream.sent}")
            case _:
                if isinstance(event, ProbeRequested):
                    stream.asked()
                self._hub.streams.post_from_client(opened, number, event)


async def _send_resumed(opened: OpenedStream, context: Context) -> None:
    """Writes the first event of a resumed stream, which has no number, but a place [WIRE-051, WIRE-091]."""
    record = opened.record
    resumed = Resumed(
        last_client_seq=record.inputs.last, last_event_seq=record.stream.last_sequence, started=opened.started
    )
    token_index, time_ms = record.stream.place()
    event = to_server_event(resumed, 0, time_ms)
    event.token_index = token_index
    await context.write(event)


async def _send_events(opened: OpenedStream, context: Context) -> None:
    """Writes the session's events up to `Finished`, no faster than the client takes them."""
    reader = opened.attachment.reader
    # Its client may have had all of a finished session, and only want to be sure.
    finished = opened.record.finished is not None and reader.read_all
    while not finished:
        taken = reader.take()
        if taken is None:
            await reader.arrival()
            continue
        finished = isinstance(taken.report, Finished)
        timings = opened.record.timings if finished else None
        await context.write(to_server_event(taken.report, taken.sequence, taken.time_ms, timings=timings))


async def _read(start: session_pb2.Start) -> StartRequest:
    """Reads a `Start` beside the event loop: megabytes of schemas take seconds to check."""
    return await asyncio.to_thread(start_from_pb, start)


def _check_generate(start: StartRequest) -> None:
    if start.tools:
        raise FieldError("start.tools", "is given; Generate calls the server's own tools only, use Session")
    if start.credit is not None:
        raise FieldError("start.credit", "is given; Generate cannot be granted more, use Session")


async def _abort(context: Context, error: Exception) -> NoReturn:
    """Ends the rpc with what `error` says to the client."""
    match error:
        case StatusError():
            fault = error
        case FieldError():
            fault = field_fault(error)
        case DecodeError():
            fault = unreadable(error)
        case WireError():
            fault = StatusError(grpc.StatusCode.INVALID_ARGUMENT, str(error), "UNREADABLE")
        case RemoteProtocolError():
            code: Any = getattr(grpc.StatusCode, error.status, grpc.StatusCode.FAILED_PRECONDITION)
            fault = StatusError(code, str(error), "PROTOCOL")
        case _:
            incident = uuid.uuid4().hex[:12]
            log.error("rpc failed, incident %s", incident, exc_info=error)
            fault = StatusError(grpc.StatusCode.INTERNAL, f"a fault of the server; its log names it {incident}")
    await abort(context, fault)
