"""What clients and hosts send: each interrupt is accepted, or rejected for one reason (spec: interrupts, section 3)."""

from __future__ import annotations

import json

from asynclm.cml.blocks import CmlError
from asynclm.cml.control import Status
from asynclm.cml.sources import format_source
from asynclm.session.calls import CallRecord
from asynclm.session.core import Core
from asynclm.session.desk import CallDesk
from asynclm.session.effects import InterruptRejected
from asynclm.session.events import InterruptReceived
from asynclm.session.hold import Hold
from asynclm.session.outbox import Phase
from asynclm.session.payloads import error_payload, json_fault, payload_bytes
from asynclm.session.state import ErrorType, NoticeCode, RejectReason, Scheduling

Refusal = tuple[RejectReason, str]
"""Why an interrupt is not accepted: the reason and one sentence for its sender."""

_ENGINES_OWN = (Status.CANCELLED, Status.TIMEOUT)
"""Outcomes that only the engine and its own hosts decide [INT-012]."""


class Inbound:
    """Checks interrupts in the order of [INT-022] and queues what passes."""

    def __init__(self, core: Core, desk: CallDesk, hold: Hold) -> None:
        self._core = core
        self._desk = desk
        self._hold = hold

    def receive(self, event: InterruptReceived) -> None:
        """Accepts or rejects one interrupt."""
        if event.source is not None and event.source.startswith("@"):
            refusal = self._refuse_speaker(event, event.source)
            if refusal is None:
                scheduling = event.scheduling or Scheduling.IMMEDIATE
                self._core.accept(event.source, Status.OK, event.payload, scheduling, client_seq=event.client_seq)
            else:
                self._reject(event, *refusal)
            return
        self._receive_result(event)

    # --- @user, @system, @agent ------------------------------------------------------------------------------

    def _refuse_speaker(self, event: InterruptReceived, source: str) -> Refusal | None:
        try:
            format_source(source, Status.OK)
        except CmlError as error:
            return RejectReason.BAD_SOURCE, str(error)
        if source == "@runtime":
            return RejectReason.BAD_SOURCE, "source @runtime: only the engine speaks as the runtime"
        if event.status not in (None, Status.OK):
            return RejectReason.BAD_STATUS, f"status {event.status.value} with source {source}; only calls have one"
        size = payload_bytes(event.payload)
        if size is None:
            return RejectReason.BAD_PAYLOAD, "payload: not Unicode text"
        return self._too_large(size) or self._queue_full()

    def _too_large(self, size: int) -> Refusal | None:
        limit = self._core.config.limits.max_payload_bytes
        if size > limit:
            return RejectReason.TOO_LARGE, f"payload: {size} bytes; allowed are {limit}"
        return None

    def _queue_full(self) -> Refusal | None:
        limit = self._core.config.limits.max_queued
        if self._core.queue.refusable >= limit:
            return RejectReason.QUEUE_FULL, f"{limit} interrupts are queued, which is the limit"
        return None

    # --- results of calls ------------------------------------------------------------------------------------

    def _receive_result(self, event: InterruptReceived) -> None:
        call = self._find(event)
        status = event.status or Status.OK
        refusal = self._refuse_host(event, call, status)
        if refusal is not None or call is None:
            self._reject(event, *(refusal or (RejectReason.UNKNOWN_ID, "")))
            return
        if call.id is None:
            self._take_unawaited(event, call, status)
            return
        refusal = self._refuse_payload(event, status)
        if refusal is not None:
            self._reject(event, *refusal)
            self._fail_unusable(event, call, status, *refusal)
        elif status.terminal:
            scheduling = event.scheduling or Scheduling.IMMEDIATE
            self._desk.resolve(call, status, event.payload, scheduling, client_seq=event.client_seq)
            self._desk.pump()
        else:
            scheduling = event.scheduling or Scheduling.SILENT
            self._core.accept(
                call.id, status, event.payload, scheduling, call_index=call.index, client_seq=event.client_seq
            )
            self._hold.result_accepted()

    def _find(self, event: InterruptReceived) -> CallRecord | None:
        if event.source is not None:
            return self._core.calls.by_id(event.source)
        assert event.call_index is not None
        return self._core.calls.by_index(event.call_index)

    def _refuse_host(self, event: InterruptReceived, call: CallRecord | None, status: Status) -> Refusal | None:
        if event.source is not None and call is None:
            try:
                format_source(event.source, Status.OK)
            except CmlError as error:
                return RejectReason.BAD_SOURCE, str(error)
        name = f"call {event.source if event.source is not None else event.call_index}"
        if call is None:
            return RejectReason.UNKNOWN_ID, f"{name[:80]}: no such call in this session"
        if call.client_owned is not event.from_client:
            owner = "client" if call.client_owned else "server"
            return RejectReason.NOT_OWNER, f"{name}: its results come from the {owner}"
        if call.id is None and event.from_client:
            return RejectReason.ALREADY_RESOLVED, f"{name}: is anonymous, and nobody waits for its result"
        if call.stopped or (call.resolved and not self._awaits_host(call)):
            return RejectReason.ALREADY_RESOLVED, f"{name}: has its terminal result"
        if call.dispatched_ms is None:
            return RejectReason.NOT_DISPATCHED, f"{name}: is held; wait for its CallDispatched"
        if event.from_client and status in _ENGINES_OWN:
            return RejectReason.BAD_STATUS, f"status {status.value}: only the engine decides it"
        return None

    @staticmethod
    def _awaits_host(call: CallRecord) -> bool:
        return call.id is None and call.dispatched_ms is not None

    def _refuse_payload(self, event: InterruptReceived, status: Status) -> Refusal | None:
        size = payload_bytes(event.payload)
        if size is None:
            return RejectReason.BAD_PAYLOAD, "payload: not Unicode text"
        refusal = self._too_large(size)
        if refusal is not None:
            return refusal
        fault = json_fault(status, event.payload)
        if fault is not None:
            return RejectReason.BAD_PAYLOAD, fault
        return None if status.terminal else self._queue_full()

    def _fail_unusable(
        self, event: InterruptReceived, call: CallRecord, status: Status, reason: RejectReason, message: str
    ) -> None:
        """A terminal result that cannot be taken must not leave its call without an end.

        One that is too large ends its call, whoever sent it [CALL-053]. One that is not JSON ends it if a host of the
        server sent it; a client has the payload back and may send another before the call's time is over.
        """
        if status.terminal and (reason is RejectReason.TOO_LARGE or not event.from_client):
            self._desk.resolve(call, Status.ERROR, error_payload(ErrorType.PAYLOAD, message))
            self._desk.pump()

    def _take_unawaited(self, event: InterruptReceived, call: CallRecord, status: Status) -> None:
        """Nothing that the server's host of an anonymous call returns is injected [CALL-042]."""
        if status.terminal:
            call.stopped = True
            self._desk.stop_timer(call)
        if status is Status.ERROR:
            self._core.notice(NoticeCode.TOOL, f"anonymous call {call.index} failed: {_brief(event.payload)}")

    def _reject(self, event: InterruptReceived, reason: RejectReason, message: str) -> None:
        report = InterruptRejected(
            token_index=self._core.input_index,
            source=self._source(event),
            reason=reason,
            message=message,
            payload=event.payload,
            client_seq=event.client_seq,
        )
        self._core.out.add(Phase.ACCEPTED, report)

    def _source(self, event: InterruptReceived) -> str:
        """The source as it was given, or the id of the call that was given by index; empty if it has none."""
        if event.source is not None:
            return event.source
        call = self._find(event)
        return (call.id or "") if call is not None else ""


def _brief(payload: str) -> str:
    try:
        return str(json.loads(payload)["message"])[:300]
    except (ValueError, TypeError, KeyError, RecursionError):
        return payload[:300]
