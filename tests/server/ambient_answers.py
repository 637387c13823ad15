"""What the client asked and what it was answered: once each, with the reason that the rules give."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.server.ambient_books import Calls, Queue
from tests.server.ambient_report import Facts, Violations

from asynclm.cml.control import NAME, RESERVED_IDS, Status
from asynclm.session import effects as fx
from asynclm.session.events import CancelRequested, CreditGranted, InterruptReceived, ProbeRequested
from asynclm.session.state import CancelOrigin, CancelOutcome, RejectReason, Scheduling

_SOURCE = re.compile(rf"{NAME.pattern}|@(?:user|system|runtime|agent\.{NAME.pattern})", re.ASCII)
_MAX_DEPTH = 64


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
        self._probes = [e.nonce for e in (facts.sent or {}).values() if isinstance(e, ProbeRequested)]

    # --- interrupts ------------------------------------------------------------------------------------------

    def accepted(self, report: fx.InterruptAccepted) -> str | None:
        """Takes an acceptance; gives the payload that was sent, if it is known."""
        asked = self._asked(report.client_seq, InterruptReceived)
        if asked is None:
            return None
        reason = self._verdict(asked)
        self._require(reason is None, "INT-022", f"accepted, though {reason} holds")
        source = asked.source if asked.source is not None else self._id_at(asked.call_index)
        self._require(report.source == source, "INT-020", f"accepted for {report.source}, sent for {source}")
        status = asked.status or Status.OK
        self._require(report.status is status, "INT-020", f"accepted as {report.status}, sent as {status}")
        default = Scheduling.IMMEDIATE if status.terminal else Scheduling.SILENT
        scheduling = asked.scheduling or default
        self._require(report.scheduling is scheduling, "INT-030", f"{report.scheduling}, sent as {scheduling}")
        return asked.payload

    def rejected(self, report: fx.InterruptRejected) -> None:
        asked = self._asked(report.client_seq, InterruptReceived)
        if asked is None:
            return
        self._require(report.payload == asked.payload, "INT-021", "the payload was not handed back as it was")
        reason = self._verdict(asked)
        self._require(report.reason is reason, "INT-022", f"{report.reason}; the first that holds: {reason}")

    def _verdict(self, asked: InterruptReceived) -> RejectReason | None:
        """The first reason of [INT-022] that holds."""
        status = asked.status or Status.OK
        if asked.source is not None:
            named = asked.source in RESERVED_IDS or _SOURCE.fullmatch(asked.source) is None
            if named or asked.source == "@runtime":
                return RejectReason.BAD_SOURCE
            if asked.source.startswith("@"):
                return self._of_speaker(asked, status)
        call = self._calls.named(asked.source) if asked.source is not None else self._calls.at(asked.call_index or 0)
        if call is None:
            return RejectReason.UNKNOWN_ID
        if not self._facts.client_owned(call.function):
            return RejectReason.NOT_OWNER
        if call.status is not None or call.row is not None:
            return RejectReason.ALREADY_RESOLVED
        if not call.dispatched:
            return RejectReason.NOT_DISPATCHED
        if status in (Status.CANCELLED, Status.TIMEOUT):
            return RejectReason.BAD_STATUS
        if self._too_large(asked):
            return RejectReason.TOO_LARGE
        if not _fits(status, asked.payload):
            return RejectReason.BAD_PAYLOAD
        return self._full() if not status.terminal else None

    def _of_speaker(self, asked: InterruptReceived, status: Status) -> RejectReason | None:
        if status is not Status.OK:
            return RejectReason.BAD_STATUS
        return RejectReason.TOO_LARGE if self._too_large(asked) else self._full()

    def _too_large(self, asked: InterruptReceived) -> bool:
        return len(asked.payload.encode()) > self._facts.started.limits.max_payload_bytes

    def _full(self) -> RejectReason | None:
        counted = sum(queued.counted for queued in self._queue.waiting.values())
        return RejectReason.QUEUE_FULL if counted >= self._facts.started.limits.max_queued else None

    def _id_at(self, index: int | None) -> str | None:
        call = self._calls.at(index or 0)
        return call.id if call is not None else None

    # --- cancels and probes ----------------------------------------------------------------------------------

    def cancelled(self, report: fx.CancelAnswered) -> None:
        asked = self._asked(report.client_seq, CancelRequested)
        if asked is not None:
            self._require(report.origin is CancelOrigin.CLIENT, "CALL-070", f"origin {report.origin}")
        call = self._calls.at(report.index) if report.index is not None else None
        outcome, require = report.outcome, self._require
        require((call is None) is (outcome is CancelOutcome.NOT_FOUND), "CALL-071", f"{outcome} for {report.id}")
        if call is None:
            return
        if call.id is not None and outcome is CancelOutcome.CANCELLED:
            require(call.status is Status.CANCELLED, "CALL-073", f"{call.id} was not resolved as cancelled")
        if call.id is not None and outcome is CancelOutcome.TOO_LATE:
            require(call.status is not None, "CALL-072", f"{call.id} is not resolved")
        if call.id is not None and outcome is CancelOutcome.NOT_CANCELLABLE and not call.function.startswith("cml."):
            require(call.dispatched and call.status is None, "CALL-074", f"{call.id} can be cancelled or is resolved")
        tool = self._facts.client_tool(call.function)
        if tool is not None:
            flags = (tool.side_effects.value, tool.idempotent)
            require((report.side_effects, report.idempotent) == flags, "CALL-076", f"flags are not {flags}")
            stays = outcome is not CancelOutcome.NOT_CANCELLABLE or not tool.cancellable
            require(stays, "CALL-074", f"{tool.name} is cancellable")

    def probed(self, report: fx.Probed) -> None:
        if self._facts.sent is None:
            return
        self._require(report.nonce in self._probes, "WIRE-080", f"nobody asked {report.nonce!r}, or it was answered")
        if report.nonce in self._probes:
            self._probes.remove(report.nonce)
        asked = [n for n, e in self._facts.sent.items() if isinstance(e, ProbeRequested) and e.nonce == report.nonce]
        self._last = max([self._last, *asked])
        if report.credit is not None:
            grants = [(n, e.tokens) for n, e in self._facts.sent.items() if isinstance(e, CreditGranted)]
            start = self._facts.started.credit or 0
            least = start + sum(tokens for n, tokens in grants if n < min(asked, default=0)) - self._spent
            most = start + sum(tokens for _, tokens in grants) - self._spent
            self._require(least <= report.credit <= most, "WIRE-072", f"credit {report.credit}, not {least} to {most}")

    def sampled(self, report: fx.Tokens) -> None:
        self._spent += len(report.ids)

    # --- once each -------------------------------------------------------------------------------------------

    def _asked(self, client_seq: int, kind: type[Any]) -> Any:
        """The client's event that is answered; None for what did not come from the client, or is not known."""
        if not client_seq or self._facts.sent is None:
            return None
        asked = self._facts.sent.get(client_seq)
        self._require(isinstance(asked, kind), "INT-020", f"answers client event {client_seq}, no {kind.__name__}")
        self._answered[client_seq] = self._answered.get(client_seq, 0) + 1
        self._require(self._answered[client_seq] == 1, "INT-020", f"client event {client_seq} was answered twice")
        self._require(client_seq >= self._last, "WIRE-031", f"answered {client_seq} after {self._last}")
        self._last = max(self._last, client_seq)
        return asked if isinstance(asked, kind) else None

    def finished(self) -> None:
        """Everything that took effect was answered; what came after the end needs no answer [WIRE-040]."""
        for number, event in (self._facts.sent or {}).items():
            if number > self._last:
                continue
            if isinstance(event, InterruptReceived):
                self._require(number in self._answered, "INT-020", f"interrupt {number} was never answered")
            elif isinstance(event, CancelRequested):
                self._require(number in self._answered, "CALL-070", f"cancel {number} was never answered")
            elif isinstance(event, ProbeRequested):
                self._require(event.nonce not in self._probes, "WIRE-083", f"probe {number} was never answered")


def _fits(status: Status, payload: str) -> bool:
    """Whether a payload is JSON of the shape that its status asks for [INT-013, LIM-007]."""
    try:
        value = json.loads(payload, parse_constant=_refuse, parse_int=float)
    except (ValueError, RecursionError):
        return False
    if _depth(value) > _MAX_DEPTH:
        return False
    if status is Status.ERROR:
        kinds = {"type": str, "message": str, "retryable": bool}
        return isinstance(value, dict) and all(isinstance(value.get(k), t) for k, t in kinds.items())
    if status is Status.PROGRESS:
        return isinstance(value, dict) and _progresses(value)
    return True


def _progresses(value: dict[str, Any]) -> bool:
    message, fraction = value.get("message"), value.get("fraction")
    if message is None and fraction is None:
        return False
    right = fraction is None or (isinstance(fraction, float) and 0.0 <= fraction <= 1.0)
    return right and (message is None or isinstance(message, str))


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _refuse(word: str) -> None:
    raise ValueError(word)
