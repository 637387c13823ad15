"""Server events to reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from asynclm.session import effects
from asynclm.session.effects import Report
from asynclm.session.events import TokenLogprob
from asynclm.v1 import session_pb2, types_pb2
from asynclm.wire import enums
from asynclm.wire.ledger import (
    call_row_from_pb,
    hosted_usage_from_pb,
    interrupt_row_from_pb,
    reference_from_pb,
    trap_from_pb,
    usage_from_pb,
)
from asynclm.wire.started import resumed_from_pb, started_from_pb
from asynclm.wire.values import ReceivedEvent, ServerReport, SessionTimings, UnknownEvent


def from_server_event(pb: session_pb2.ServerEvent) -> ReceivedEvent:
    """Reads a server event; an event of a later revision becomes `UnknownEvent`.

    Raises:
        WireError: it has a value that this revision does not know.
    """
    field = pb.WhichOneof("event")
    report: ServerReport
    timings = None
    if field is None:
        report = UnknownEvent()
    elif field == "started":
        report = started_from_pb(pb.started)
    elif field == "resumed":
        report = resumed_from_pb(pb.resumed)
    else:
        report = _READERS[field](pb)
        if field == "finished" and pb.finished.HasField("timings"):
            timings = timings_from_pb(pb.finished.timings)
    return ReceivedEvent(pb.sequence, pb.token_index, pb.time_ms, report, timings)


def _tokens(pb: session_pb2.ServerEvent) -> Report:
    body = pb.tokens
    return effects.Tokens(
        token_index=pb.token_index,
        ids=tuple(body.ids),
        text=body.text,
        control=enums.CONTROL.optional(body.control),
        end_of_sequence=body.end_of_sequence,
        logprobs=tuple(body.logprobs),
        in_block=enums.CONTROL.optional(body.in_block),
        ranks=tuple(body.ranks),
        top_logprobs=tuple(
            tuple(TokenLogprob(token_id=t.id, logprob=t.logprob, text=t.text) for t in top.tokens)
            for top in body.top_logprobs
        ),
    )


def _call_emitted(pb: session_pb2.ServerEvent) -> Report:
    body = pb.call_emitted
    return effects.CallEmitted(
        token_index=pb.token_index,
        index=body.index,
        id=body.id if body.HasField("id") else None,
        function=body.function,
        raw=body.raw,
        references=tuple(reference_from_pb(r) for r in body.references),
    )


def _call_dispatched(pb: session_pb2.ServerEvent) -> Report:
    body = pb.call_dispatched
    return effects.CallDispatched(
        token_index=pb.token_index,
        index=body.index,
        id=body.id if body.HasField("id") else None,
        function=body.function,
        arguments=body.arguments,
        client_owned=body.client_owned,
        timeout_ms=body.timeout_ms,
    )


def _call_cancel_requested(pb: session_pb2.ServerEvent) -> Report:
    body = pb.call_cancel_requested
    return effects.CallCancelRequested(
        token_index=pb.token_index,
        index=body.index,
        id=body.id if body.HasField("id") else None,
        origin=enums.CANCEL_ORIGIN.member(body.origin),
        client_owned=body.client_owned,
    )


def _cancel_outcome(pb: session_pb2.ServerEvent) -> Report:
    body = pb.cancel_outcome
    side_effects = enums.SIDE_EFFECTS.optional(body.side_effects)
    return effects.CancelAnswered(
        token_index=pb.token_index,
        outcome=enums.CANCEL_OUTCOME.member(body.outcome),
        index=body.index if body.HasField("index") else None,
        id=body.id if body.HasField("id") else None,
        origin=enums.CANCEL_ORIGIN.member(body.origin),
        side_effects=side_effects.value if side_effects else "",
        idempotent=body.idempotent,
        client_seq=body.client_seq,
    )


def _trap_entered(pb: session_pb2.ServerEvent) -> Report:
    body = pb.trap_entered
    return effects.TrapEntered(token_index=pb.token_index, trap=trap_from_pb(body.trap), implicit=body.implicit)


def _trap_exited(pb: session_pb2.ServerEvent) -> Report:
    body = pb.trap_exited
    return effects.TrapExited(token_index=pb.token_index, timed_out=body.timed_out, empty=body.empty)


def _state_changed(pb: session_pb2.ServerEvent) -> Report:
    body = pb.state_changed
    state = enums.STATE.member(body.state)
    stop_string = body.stop_string if body.HasField("stop_string") else None
    return effects.StateChanged(token_index=pb.token_index, state=state, reason=body.reason, stop_string=stop_string)


def _probed(pb: session_pb2.ServerEvent) -> Report:
    body = pb.probed
    return effects.Probed(
        token_index=pb.token_index,
        nonce=body.nonce,
        state=enums.STATE.member(body.state),
        credit=body.credit if body.HasField("credit") else None,
        paused=body.paused,
        queued=body.queued,
        unresolved=tuple(body.unresolved),
    )


def _interrupt_accepted(pb: session_pb2.ServerEvent) -> Report:
    body = pb.interrupt_accepted
    return effects.InterruptAccepted(
        token_index=pb.token_index,
        number=body.number,
        source=body.source,
        status=enums.STATUS.member(body.status),
        scheduling=enums.SCHEDULING.member(body.scheduling),
        client_seq=body.client_seq,
    )


def _interrupt_committed(pb: session_pb2.ServerEvent) -> Report:
    body = pb.interrupt_committed
    return effects.InterruptCommitted(
        token_index=pb.token_index,
        number=body.number,
        source=body.source,
        status=enums.STATUS.member(body.status),
        payload=body.payload,
        ids=tuple(body.ids),
    )


def _interrupt_rejected(pb: session_pb2.ServerEvent) -> Report:
    body = pb.interrupt_rejected
    return effects.InterruptRejected(
        token_index=pb.token_index,
        source=body.source,
        reason=enums.REJECT_REASON.member(body.reason),
        message=body.message,
        payload=body.payload,
        client_seq=body.client_seq,
    )


def _call_settled(pb: session_pb2.ServerEvent) -> Report:
    return effects.CallSettled(token_index=pb.token_index, row=call_row_from_pb(pb.call_settled.row))


def _notice(pb: session_pb2.ServerEvent) -> Report:
    code = enums.NOTICE_CODE.member(pb.notice.code)
    return effects.Notice(token_index=pb.token_index, code=code, message=pb.notice.message)


def _finished(pb: session_pb2.ServerEvent) -> Report:
    return finished_from_pb(pb.finished, pb.token_index)


def finished_from_pb(pb: session_pb2.Finished, token_index: int) -> effects.Finished:
    """The last event's content.

    Raises:
        WireError: it has a value that this revision does not know.
    """
    return effects.Finished(
        token_index=token_index,
        reason=enums.FINISH_REASON.member(pb.reason),
        message=pb.message,
        usage=usage_from_pb(pb.usage),
        calls=tuple(call_row_from_pb(row) for row in pb.calls),
        interrupts=tuple(interrupt_row_from_pb(row) for row in pb.interrupts),
        stop_string=pb.stop_string if pb.HasField("stop_string") else None,
        hosted=hosted_usage_from_pb(pb.hosted) if pb.HasField("hosted") else None,
    )


def timings_from_pb(pb: types_pb2.SessionTimings) -> SessionTimings:
    """Where a session's time went."""
    return SessionTimings(
        first_token_ms=pb.first_token_ms if pb.HasField("first_token_ms") else None,
        total_ms=pb.total_ms if pb.HasField("total_ms") else None,
        suspended_ms=pb.suspended_ms if pb.HasField("suspended_ms") else None,
    )


_READERS: Mapping[str, Callable[[session_pb2.ServerEvent], Report]] = {
    "tokens": _tokens,
    "call_emitted": _call_emitted,
    "call_dispatched": _call_dispatched,
    "call_cancel_requested": _call_cancel_requested,
    "cancel_outcome": _cancel_outcome,
    "trap_entered": _trap_entered,
    "trap_exited": _trap_exited,
    "state_changed": _state_changed,
    "probed": _probed,
    "interrupt_accepted": _interrupt_accepted,
    "interrupt_committed": _interrupt_committed,
    "interrupt_rejected": _interrupt_rejected,
    "call_settled": _call_settled,
    "notice": _notice,
    "finished": _finished,
}
