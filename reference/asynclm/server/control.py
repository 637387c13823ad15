"""The control plane: what the server is, and what its sessions do."""

from __future__ import annotations

import asyncio
import dataclasses

from asynclm.engine.loop import SessionNotFoundError
from asynclm.server.context import Context
from asynclm.server.hub import SessionHub
from asynclm.server.metrics import by_name
from asynclm.server.registry import SessionRecord
from asynclm.session.effects import CallRow, Finished, InterruptRow, Usage
from asynclm.session.machine import Session
from asynclm.session.state import State
from asynclm.v1 import control_pb2, control_pb2_grpc
from asynclm.wire.errors import FieldError, abort, field_fault, session_not_found, shorten
from asynclm.wire.info import server_info_to_pb, session_detail_to_pb, summary_to_pb
from asynclm.wire.values import SessionDetail, SessionSummary

DEFAULT_PAGE = 100
MAX_PAGE = 1000
MAX_REASON_CHARS = 1000


class ControlService(control_pb2_grpc.ControlServicer):
    """Discovery and administration over the hub."""

    def __init__(self, hub: SessionHub) -> None:
        self._hub = hub

    async def GetServerInfo(  # noqa: N802
        self, request: control_pb2.GetServerInfoRequest, context: Context
    ) -> control_pb2.GetServerInfoResponse:
        """What this server is and can do."""
        info = dataclasses.replace(self._hub.describe(), metrics=by_name(self._hub.metrics()))
        return server_info_to_pb(info)

    async def ListSessions(  # noqa: N802
        self, request: control_pb2.ListSessionsRequest, context: Context
    ) -> control_pb2.ListSessionsResponse:
        """The sessions that are running or kept, oldest first."""
        size = request.page_size if request.HasField("page_size") else DEFAULT_PAGE
        if not 1 <= size <= MAX_PAGE:
            await abort(context, field_fault(FieldError("page_size", f"is {size}; allowed: 1 to {MAX_PAGE}")))
        records = self._hub.registry.records()
        first = 0
        if request.HasField("page_token"):
            places = [i for i, r in enumerate(records) if r.session_id == request.page_token]
            if not places:
                message = f"is {shorten(request.page_token)}, not a token of this server, or its session is gone"
                await abort(context, field_fault(FieldError("page_token", message)))
            first = places[0] + 1
        page = records[first : first + size]
        details = [await self._detail(record) for record in page]
        response = control_pb2.ListSessionsResponse(sessions=[summary_to_pb(d.summary) for d in details if d])
        if first + size < len(records):
            response.next_page_token = page[-1].session_id
        return response

    async def GetSession(  # noqa: N802
        self, request: control_pb2.GetSessionRequest, context: Context
    ) -> control_pb2.GetSessionResponse:
        """State and ledger of one session, running or kept."""
        record = self._hub.registry.get(request.session_id)
        detail = await self._detail(record) if record is not None else None
        if detail is None:
            await abort(context, session_not_found(request.session_id))
        return session_detail_to_pb(detail)

    async def AbortSessions(  # noqa: N802
        self, request: control_pb2.AbortSessionsRequest, context: Context
    ) -> control_pb2.AbortSessionsResponse:
        """Ends sessions; idempotent."""
        message = request.reason[:MAX_REASON_CHARS] if request.HasField("reason") else "aborted by request"
        return control_pb2.AbortSessionsResponse(aborted=await self._hub.abort(request.session_ids, message))

    async def _detail(self, record: SessionRecord) -> SessionDetail | None:
        """What is known of a session; None if it could not be opened after all."""
        if record.finished is None:
            try:
                look = self._hub.loop.inspect(record.session_id, _look)
                state, paused, pending, usage, calls, interrupts, token_index = await asyncio.wrap_future(look)
                return SessionDetail(
                    summary=SessionSummary(
                        session_id=record.session_id,
                        model=record.model,
                        state=state,
                        attached=record.attached,
                        paused=paused,
                        started_at=record.started_at,
                        token_index=token_index,
                        pending_calls=pending,
                        labels=record.labels,
                    ),
                    usage=usage,
                    calls=calls,
                    interrupts=interrupts,
                    last_event_seq=record.stream.last_sequence,
                )
            except SessionNotFoundError:
                await record.done.wait()  # it finished just now
        return _finished_detail(record, record.finished) if record.finished is not None else None


def _look(
    machine: Session,
) -> tuple[State, bool, int, Usage, tuple[CallRow, ...], tuple[InterruptRow, ...], int]:
    ledger = machine.ledger()
    return (
        machine.state,
        machine.paused,
        machine.pending_calls,
        machine.usage(),
        ledger.calls,
        ledger.interrupts,
        machine.token_index,
    )


def _finished_detail(record: SessionRecord, finished: Finished) -> SessionDetail:
    return SessionDetail(
        summary=SessionSummary(
            session_id=record.session_id,
            model=record.model,
            state=State.FINISHED,
            attached=record.attached,
            started_at=record.started_at,
            token_index=finished.token_index,
            labels=record.labels,
            reason=finished.reason,
        ),
        usage=finished.usage,
        calls=finished.calls,
        interrupts=finished.interrupts,
        last_event_seq=record.stream.last_sequence,
        finished=finished,
    )
