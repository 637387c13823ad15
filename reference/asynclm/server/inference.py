"""The data plane: `Inference.Session` and `Inference.Generate` over the hub."""

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
from asynclm.server.hub import OpenedSession, SessionHub
from asynclm.server.unreadable import unreadable
from asynclm.session.effects import Finished
from asynclm.session.errors import RemoteProtocolError
from asynclm.session.events import HalfClosed, ProbeRequested
from asynclm.v1 import inference_pb2, inference_pb2_grpc, session_pb2
from asynclm.wire.client_events import AckReceived, ClientInput, ResumeAsked, client_event_from_pb
from asynclm.wire.errors import BAD_EVENT, SEQUENCE_GAP, FieldError, StatusError, WireError, abort, field_fault
from asynclm.wire.reports import to_server_event
from asynclm.wire.start import StartRequest, start_from_pb
from asynclm.wire.values import OnDisconnect

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
            start = await self._read_start(request_iterator)
            opened = await self._hub.open(start)
        except Exception as error:
            await _abort(context, error)
        reader = asyncio.create_task(self._read_events(request_iterator, opened))
        try:
            await _send_events(opened, context)
        except Exception as error:
            await _abort(context, error)
        finally:
            reader.cancel()
            self._hub.leave(opened)

    async def Resume(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[session_pb2.ClientEvent], context: Context
    ) -> NoReturn:
        """Not yet: this server does not declare RESUME."""
        message = "this server cannot resume sessions; see GetSession for the ledger of a dropped one"
        await abort(context, StatusError(grpc.StatusCode.UNIMPLEMENTED, message, "NO_RESUME"))

    async def Generate(  # type: ignore[override]  # noqa: N802
        self, request: inference_pb2.GenerateRequest, context: Context
    ) -> None:
        """A session that takes no further client events."""
        try:
            start = await _read(request.start)
            _check_generate(start)
            # Cancelling the rpc ends the session, whatever the start says [WIRE-102].
            opened = await self._hub.open(dataclasses.replace(start, on_disconnect=OnDisconnect.CANCEL))
        except Exception as error:
            await _abort(context, error)
        self._hub.post(opened.record, HalfClosed())
        try:
            await _send_events(opened, context)
        except Exception as error:
            await _abort(context, error)
        finally:
            self._hub.leave(opened)

    async def _read_start(self, requests: AsyncIterator[session_pb2.ClientEvent]) -> StartRequest:
        seconds = self._hub.options.limits.start_timeout_s
        try:
            async with asyncio.timeout(seconds):
                first = await anext(requests)
        except StopAsyncIteration:
            raise FieldError("start", "is missing: the stream ended before its first event") from None
        except TimeoutError:
            message = f"no Start within {seconds:g} s of the opening of the stream"
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, message, "START_TIMEOUT") from None
        which = first.WhichOneof("event")
        if which != "start":
            raise FieldError("event", f"is {which or 'empty'}; the first event of Session is start", BAD_EVENT)
        _check_sequence(first.client_seq, 0)
        return await _read(first.start)

    async def _read_events(self, requests: AsyncIterator[session_pb2.ClientEvent], opened: OpenedSession) -> None:
        """Passes the client's events on, no faster than they are applied and answered; its faults end the stream."""
        applied, ahead = 1, 0
        try:
            async for pb in requests:
                if pb.client_seq != 0 and pb.client_seq <= applied:
                    continue
                _check_sequence(pb.client_seq, applied)
                self._apply(client_event_from_pb(pb), opened)
                applied += 1
                ahead += pb.ByteSize() + EVENT_BYTES
                if ahead > MOST_AHEAD:
                    await self._hub.caught_up()
                    ahead = 0
                await opened.record.stream.room()
            await asyncio.sleep(BREAK_OFF_S)
            self._hub.post(opened.record, HalfClosed())
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._hub.refuse(opened.record, error)

    def _apply(self, event: ClientInput, opened: OpenedSession) -> None:
        match event:
            case StartRequest() | ResumeAsked():
                raise FieldError("event", "is a second start; a stream carries one session", BAD_EVENT)
            case ProbeRequested():
                opened.record.stream.asked()
                self._hub.post(opened.record, event)
            case AckReceived():
                pass  # events are not kept for Resume yet: there is nothing to let go
            case _:
                self._hub.post(opened.record, event)


async def _send_events(opened: OpenedSession, context: Context) -> None:
    """Writes the session's events up to `Finished`, no faster than the client takes them; returns where it is gone."""
    record = opened.record
    stream = record.stream
    try:
        await context.write(to_server_event(opened.started, 1, 0))
        finished = False
        while not finished:
            taken = stream.take()
            if taken is None:
                await stream.arrival()
                continue
            finished = isinstance(taken.report, Finished)
            timings = record.timings if finished else None
            await context.write(to_server_event(taken.report, taken.sequence, taken.time_ms, timings=timings))
    except (grpc.aio.UsageError, grpc.aio.InternalError) as error:
        log.info("session %s: its stream is broken: %s", record.session_id, error)


async def _read(start: session_pb2.Start) -> StartRequest:
    """Reads a `Start` beside the event loop: megabytes of schemas take seconds to check."""
    return await asyncio.to_thread(start_from_pb, start)


def _check_sequence(client_seq: int, applied: int) -> None:
    if client_seq != applied + 1:
        raise FieldError("client_seq", f"is {client_seq}; the next is {applied + 1}", SEQUENCE_GAP)


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
