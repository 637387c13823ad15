"""What the client asked and what it was answered: once each, with the reason that the rules give."""

from __future__ import annotations

import re
from typing import Any

from asynclm.cml.control import NAME, RESERVED_IDS
from asynclm.v1 import session_pb2, types_pb2
from asynclm_conformance.ambient.books import TERMINAL, Call, Calls, Queue
from asynclm_conformance.ambient.payloads import fits
from asynclm_conformance.ambient.report import Event, Facts, Violations, member

_SOURCE = re.compile(rf"{NAME.pattern}|@(?:user|system|runtime|agent\.{NAME.pattern})", re.ASCII)
_ENGINE_ONLY = (types_pb2.STATUS_CANCELLED, types_pb2.STATUS_TIMEOUT)
_Outcome = session_pb2.CancelOutcome


class Answers:
    """Holds the server's answers against the client's events."""

    def __init__(self, facts: Facts, found: Violations, calls: Calls, queue: Queue) -> None:
        self._facts = facts
        self._require = found.require
        self._calls = calls
        self._queue = queue
        self._answered: dict[int, int] = {}
        self._last = 0
        self._spent = 0
        self._probes = [probe.nonce for _, probe in facts.asked("probe")]

    # --- interrupts ------------------------------------------------------------------------------------------

    def accepted(self, body: session_pb2.InterruptAccepted) -> str | None:
        """Takes an acceptance; gives the payload that was sent, if it is known."""
        asked: session_pb2.Interrupt | None = self._asked(body.client_seq, "interrupt")
        if asked is None:
            return None
        require, reason = self._require, self._verdict(asked)
        told = member(types_pb2.RejectReason, reason)
        require(not reason, "INT-022", f"accepted, though {told} holds")
        source = asked.source if asked.HasField("source") else self._id_at(asked.call_index)
        require(body.source == source, "INT-020", f"accepted for {body.source!r}, sent for {source!r}")
        status = asked.status or types_pb2.STATUS_OK
        same = f"accepted as {member(types_pb2.Status, body.status)}, sent as {member(types_pb2.Status, status)}"
        require(body.status == status, "INT-020", same)
        default = types_pb2.SCHEDULING_IMMEDIATE if status in TERMINAL else types_pb2.SCHEDULING_SILENT
        scheduling = asked.scheduling or default
        given, due = (member(types_pb2.Scheduling, number) for number in (body.scheduling, scheduling))
        require(body.scheduling == scheduling, "INT-030", f"scheduled {given}, not {due}")
        return asked.payload

    def rejected(self, event: Event) -> None:
        """Takes a rejection."""
        body: session_pb2.InterruptRejected = event.body
        asked: session_pb2.Interrupt | None = self._asked(body.client_seq, "interrupt")
        if asked is None:
            return
        self._require(body.payload == asked.payload, "INT-021", "the payload was not handed back as it was")
        told, due = (member(types_pb2.RejectReason, reason) for reason in (body.reason, self._verdict(asked)))
        self._require(told == due, "INT-022", f"{told}; the first that holds: {due}")

    def _verdict(self, asked: session_pb2.Interrupt) -> int:
        """The first reason of [INT-022] that holds; 0 if none does."""
        status = asked.status or types_pb2.STATUS_OK
        call: Call | None
        if asked.HasField("source"):
            unfit = asked.source in RESERVED_IDS or _SOURCE.fullmatch(asked.source) is None
            if unfit or asked.source == "@runtime":
                return types_pb2.REJECT_REASON_BAD_SOURCE
            if asked.source.startswith("@"):
                return self._of_speaker(asked, status)
            call = self._calls.named(asked.source)
        else:
            call = self._calls.at(asked.call_index)
        if call is None:
            return types_pb2.REJECT_REASON_UNKNOWN_ID
        if not self._facts.client_owned(call.function):
            return types_pb2.REJECT_REASON_NOT_OWNER
        return self._of_result(asked, status, call)

    def _of_result(self, asked: session_pb2.Interrupt, status: int, call: Call) -> int:
        if call.id is None or call.status or call.row is not None:  # an anonymous one at any time [CALL-044]
            return types_pb2.REJECT_REASON_ALREADY_RESOLVED
        if not call.dispatched:
            return types_pb2.REJECT_REASON_NOT_DISPATCHED
        if status in _ENGINE_ONLY:
            return types_pb2.REJECT_REASON_BAD_STATUS
        if self._too_large(asked):
            return types_pb2.REJECT_REASON_TOO_LARGE
        if not fits(status, asked.payload):
            return types_pb2.REJECT_REASON_BAD_PAYLOAD
        return self._full() if status not in TERMINAL else 0

    def _of_speaker(self, asked: session_pb2.Interrupt, status: int) -> int:
        if status != types_pb2.STATUS_OK:
            return types_pb2.REJECT_REASON_BAD_STATUS
        return types_pb2.REJECT_REASON_TOO_LARGE if self._too_large(asked) else self._full()

    def _too_large(self, asked: session_pb2.Interrupt) -> bool:
        return len(asked.payload.encode()) > self._facts.limit("max_payload_bytes")

    def _full(self) -> int:
        counted = sum(queued.counted for queued in self._queue.waiting.values())
        return types_pb2.REJECT_REASON_QUEUE_FULL if counted >= self._facts.limit("max_queued") else 0

    def _id_at(self, index: int) -> str | None:
        call = self._calls.at(index)
        return call.id if call is not None else None

    # --- cancels and probes ----------------------------------------------------------------------------------

    def cancelled(self, event: Event) -> None:
        """Takes the outcome of a cancel."""
        body: session_pb2.CancelOutcome = event.body
        require = self._require
        asked: session_pb2.CancelCall | None = self._asked(body.client_seq, "cancel_call")
        origin = member(types_pb2.CancelOrigin, body.origin)
        if asked is not None:
            require(body.origin == types_pb2.CANCEL_ORIGIN_CLIENT, "CALL-070", f"origin {origin}")
            same = self._named(asked) is (self._calls.at(body.index) if body.HasField("index") else None)
            require(same, "CALL-070", f"the outcome is that of another call, {body.index}")
        elif not body.client_seq:
            require(body.origin == types_pb2.CANCEL_ORIGIN_MODEL, "CALL-070", f"{origin} asks for no outcome")
        call = self._calls.at(body.index) if body.HasField("index") else None
        known, outcome = body.outcome != _Outcome.OUTCOME_NOT_FOUND, member(_Outcome.Outcome, body.outcome)
        require((call is not None) is known, "CALL-071", f"{outcome} for call {body.index} {body.id!r}")
        if call is not None:
            self._outcome(body, call)

    def _named(self, asked: session_pb2.CancelCall) -> Call | None:
        by_id = asked.WhichOneof("call") == "id"
        return self._calls.named(asked.id) if by_id else self._calls.at(asked.index)

    def _outcome(self, body: session_pb2.CancelOutcome, call: Call) -> None:
        require, outcome = self._require, body.outcome
        stays = outcome == _Outcome.OUTCOME_NOT_CANCELLABLE
        if call.id is not None and outcome == _Outcome.OUTCOME_CANCELLED:
            cancelled = call.status == types_pb2.STATUS_CANCELLED
            require(cancelled, "CALL-073", f"{call.id} was not resolved as cancelled")
        if call.id is not None and outcome == _Outcome.OUTCOME_TOO_LATE:
            require(call.status, "CALL-072", f"{call.id} is not resolved")
        if call.id is not None and stays and not call.function.startswith("cml."):
            require(call.dispatched and not call.status, "CALL-074", f"{call.id} can be cancelled or is resolved")
        tool = self._facts.client_tool(call.function)
        if tool is not None:
            flags = (tool.side_effects or types_pb2.SIDE_EFFECTS_EXTERNAL, tool.idempotent)
            told = (body.side_effects, body.idempotent)
            require(told == flags, "CALL-076", f"flags are {told}; {tool.name} declares {flags}")
            cancellable = tool.cancellable or not tool.HasField("cancellable")
            require(not stays or not cancellable, "CALL-074", f"{tool.name} is cancellable")

    def probed(self, body: session_pb2.Probed) -> None:
        """Takes the answer to a probe."""
        if self._facts.sent is None:
            return
        self._require(body.nonce in self._probes, "WIRE-080", f"nobody asked {body.nonce!r}, or it was answered")
        if body.nonce in self._probes:
            self._probes.remove(body.nonce)
        asked = [number for number, probe in self._facts.asked("probe") if probe.nonce == body.nonce]
        self._last = max([self._last, *asked])
        if body.HasField("credit"):
            grants = [(number, max(grant.tokens, 0)) for number, grant in self._facts.asked("grant")]
            left = (self._facts.credit or 0) - self._spent
            least = left + sum(tokens for number, tokens in grants if number < min(asked, default=0))
            most = left + sum(tokens for _, tokens in grants)
            self._require(least <= body.credit <= most, "WIRE-072", f"credit {body.credit}, not {least} to {most}")

    def sampled(self, event: Event) -> None:
        """Tokens cost credit."""
        self._spent += event.units

    # --- once each -------------------------------------------------------------------------------------------

    def _asked(self, client_seq: int, kind: str) -> Any:
        """The client's event that is answered; None for what did not come from the client, or is not known."""
        if not client_seq or self._facts.sent is None:
            return None
        event = self._facts.sent.get(client_seq)
        right = event is not None and event.WhichOneof("event") == kind
        self._require(right, "INT-020", f"answers client event {client_seq}, which is no {kind}")
        self._answered[client_seq] = self._answered.get(client_seq, 0) + 1
        self._require(self._answered[client_seq] == 1, "INT-020", f"client event {client_seq} was answered twice")
        self._require(client_seq >= self._last, "WIRE-031", f"answered {client_seq} after {self._last}")
        self._last = max(self._last, client_seq)
        return getattr(event, kind) if right else None

    def finished(self, reason: int) -> None:
        """Everything that took effect was answered; what came after the end needs no answer [WIRE-040].

        A session that the client has finished shows that all that was sent before `Finish` took effect [WIRE-031].
        """
        if reason == types_pb2.FINISH_REASON_FINISHED_BY_CLIENT:
            self._last = max(self._last, min((number for number, _ in self._facts.asked("finish")), default=0))
        for kind, requirement in (("interrupt", "INT-020"), ("cancel_call", "CALL-070")):
            left = [n for n, _ in self._facts.asked(kind) if n <= self._last and n not in self._answered]
            self._require(not left, requirement, f"client events {left}, {kind}, were never answered")
        left = [n for n, probe in self._facts.asked("probe") if n <= self._last and probe.nonce in self._probes]
        self._require(not left, "WIRE-083", f"probes {left} were never answered")
