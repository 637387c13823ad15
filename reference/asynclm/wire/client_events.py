"""Client events: what a client's message asks of its session, both ways."""

from __future__ import annotations

from dataclasses import dataclass

from asynclm.session.events import (
    CancelRequested,
    CreditGranted,
    FinishRequested,
    InterruptReceived,
    PauseChanged,
    ProbeRequested,
)
from asynclm.v1 import session_pb2
from asynclm.wire import enums
from asynclm.wire.errors import BAD_EVENT, FieldError
from asynclm.wire.start import StartRequest, start_from_pb, start_to_pb


@dataclass(frozen=True, slots=True)
class AckReceived:
    """The client has seen every event up to this sequence number."""

    sequence: int


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    """The client takes up a session again, from after this event."""

    session_id: str
    last_event_seq: int


SessionInput = InterruptReceived | CancelRequested | CreditGranted | PauseChanged | ProbeRequested | FinishRequested
"""What a client sends to a running session's machine."""

ClientInput = StartRequest | ResumeAsked | AckReceived | SessionInput
"""What a client event carries."""

MAX_NONCE_CHARS = 256


def client_event_from_pb(pb: session_pb2.ClientEvent) -> ClientInput:
    """Reads a client event.

    Raises:
        FieldError: a field is not allowed, or the event is empty.
    """
    which = pb.WhichOneof("event")
    match which:
        case "interrupt":
            return _interrupt(pb)
        case "cancel_call":
            return _cancel(pb)
        case "grant":
            if pb.grant.tokens <= 0:
                raise FieldError("grant.tokens", f"is {pb.grant.tokens}; it must be positive")
            return CreditGranted(tokens=pb.grant.tokens)
        case "pause" | "unpause":
            return PauseChanged(paused=which == "pause")
        case "probe":
            if len(pb.probe.nonce) > MAX_NONCE_CHARS:
                raise FieldError("probe.nonce", f"has {len(pb.probe.nonce)} characters; at most {MAX_NONCE_CHARS}")
            return ProbeRequested(nonce=pb.probe.nonce)
        case "ack":
            if pb.ack.sequence < 0:
                raise FieldError("ack.sequence", f"is {pb.ack.sequence}; it must be 0 or more")
            return AckReceived(pb.ack.sequence)
        case "finish":
            pending = pb.finish.cancel_pending if pb.finish.HasField("cancel_pending") else None
            return FinishRequested(cancel_pending=pending)
        case "start":
            return start_from_pb(pb.start)
        case "resume":
            if pb.resume.last_event_seq < 0:
                raise FieldError("resume.last_event_seq", f"is {pb.resume.last_event_seq}; it must be 0 or more")
            return ResumeAsked(pb.resume.session_id, pb.resume.last_event_seq)
        case None:
            allowed = ", ".join(f.name for f in session_pb2.ClientEvent.DESCRIPTOR.oneofs_by_name["event"].fields)
            raise FieldError("event", f"is not given or not known; allowed: {allowed}", BAD_EVENT)


def _interrupt(pb: session_pb2.ClientEvent) -> InterruptReceived:
    body = pb.interrupt
    if body.HasField("source") == body.HasField("call_index"):
        raise FieldError("interrupt.source", "and call_index: give exactly one of the two", BAD_EVENT)
    return InterruptReceived(
        payload=body.payload,
        source=body.source if body.HasField("source") else None,
        call_index=body.call_index if body.HasField("call_index") else None,
        status=enums.STATUS.given(body.status, "interrupt.status"),
        scheduling=enums.SCHEDULING.given(body.scheduling, "interrupt.scheduling"),
        from_client=True,
        client_seq=pb.client_seq,
    )


def _cancel(pb: session_pb2.ClientEvent) -> CancelRequested:
    match pb.cancel_call.WhichOneof("call"):
        case "id":
            return CancelRequested(id=pb.cancel_call.id, client_seq=pb.client_seq)
        case "index":
            return CancelRequested(call_index=pb.cancel_call.index, client_seq=pb.client_seq)
        case None:
            raise FieldError("cancel_call.call", "is not given; give id or index", BAD_EVENT)


def client_event_to_pb(value: ClientInput, client_seq: int) -> session_pb2.ClientEvent:
    """Writes a client event under its number."""
    pb = session_pb2.ClientEvent(client_seq=client_seq)
    match value:
        case InterruptReceived():
            pb.interrupt.CopyFrom(
                session_pb2.Interrupt(
                    source=value.source,
                    call_index=value.call_index,
                    status=enums.STATUS.number(value.status),
                    payload=value.payload,
                    scheduling=enums.SCHEDULING.number(value.scheduling),
                )
            )
        case CancelRequested():
            if value.id is not None:
                pb.cancel_call.id = value.id
            elif value.call_index is not None:
                pb.cancel_call.index = value.call_index
        case CreditGranted():
            pb.grant.tokens = value.tokens
        case PauseChanged():
            (pb.pause if value.paused else pb.unpause).SetInParent()
        case ProbeRequested():
            pb.probe.nonce = value.nonce
            pb.probe.SetInParent()
        case FinishRequested():
            pb.finish.CopyFrom(session_pb2.Finish(cancel_pending=value.cancel_pending))
        case AckReceived():
            pb.ack.sequence = value.sequence
            pb.ack.SetInParent()
        case StartRequest():
            pb.start.CopyFrom(start_to_pb(value))
        case ResumeAsked():
            pb.resume.CopyFrom(
                session_pb2.ResumeRequest(session_id=value.session_id, last_event_seq=value.last_event_seq)
            )
    return pb
