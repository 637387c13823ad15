"""Client events cross the wire unchanged, and bad ones are refused with the field's name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.values import COUNT, TEXT

from asynclm.cml.control import Status
from asynclm.session.events import (
    CancelRequested,
    CreditGranted,
    FinishRequested,
    InterruptReceived,
    PauseChanged,
    ProbeRequested,
)
from asynclm.session.state import Scheduling
from asynclm.v1 import session_pb2
from asynclm.wire import AckReceived, ClientInput, FieldError, ResumeAsked, client_event_from_pb, client_event_to_pb

SEQ = 7

targets = st.one_of(st.builds(lambda s: {"source": s}, TEXT), st.builds(lambda i: {"call_index": i}, COUNT))
interrupts = st.builds(
    lambda target, **rest: InterruptReceived(**target, **rest),
    targets,
    payload=TEXT,
    status=st.none() | st.sampled_from(Status),
    scheduling=st.none() | st.sampled_from(Scheduling),
    client_seq=st.just(SEQ),
)
cancels = st.one_of(
    st.builds(CancelRequested, id=TEXT, client_seq=st.just(SEQ)),
    st.builds(CancelRequested, call_index=COUNT, client_seq=st.just(SEQ)),
)
inputs = st.one_of(
    interrupts,
    cancels,
    st.builds(CreditGranted, tokens=st.integers(1, 2**62)),
    st.builds(PauseChanged, paused=st.booleans()),
    st.builds(ProbeRequested, nonce=TEXT),
    st.builds(FinishRequested, cancel_pending=st.none() | st.booleans()),
    st.builds(AckReceived, COUNT),
    st.builds(ResumeAsked, TEXT, COUNT),
)


@given(inputs)
def test_crosses_the_wire_unchanged(value: ClientInput) -> None:
    pb = session_pb2.ClientEvent.FromString(client_event_to_pb(value, SEQ).SerializeToString())
    assert pb.client_seq == SEQ
    assert client_event_from_pb(pb) == value


def event(**fields: object) -> session_pb2.ClientEvent:
    return session_pb2.ClientEvent(client_seq=SEQ, **fields)  # type: ignore[arg-type]


def unknown_status() -> session_pb2.ClientEvent:
    pb = event(interrupt=session_pb2.Interrupt(source="a"))
    pb.interrupt.status = 50
    return pb


@pytest.mark.parametrize(
    ("pb", "field"),
    [
        (event(), "event"),
        (event(grant=session_pb2.Grant(tokens=0)), "grant.tokens"),
        (event(grant=session_pb2.Grant(tokens=-3)), "grant.tokens"),
        (event(probe=session_pb2.Probe(nonce="x" * 257)), "probe.nonce"),
        (event(ack=session_pb2.Ack(sequence=-1)), "ack.sequence"),
        (event(resume=session_pb2.ResumeRequest(last_event_seq=-1)), "resume.last_event_seq"),
        (event(cancel_call=session_pb2.CancelCall()), "cancel_call.call"),
        (event(interrupt=session_pb2.Interrupt(payload="1")), "interrupt.source"),
        (event(interrupt=session_pb2.Interrupt(source="a", call_index=1)), "interrupt.source"),
        (event(start=session_pb2.Start()), "start.messages"),
        (unknown_status(), "interrupt.status"),
    ],
)
def test_refuses(pb: session_pb2.ClientEvent, field: str) -> None:
    with pytest.raises(FieldError) as refused:
        client_event_from_pb(pb)
    assert refused.value.field == field


def test_an_interrupt_of_a_client_is_marked_as_such() -> None:
    value = client_event_from_pb(event(interrupt=session_pb2.Interrupt(source="@user", payload="Stop")))
    assert value == InterruptReceived(source="@user", payload="Stop", from_client=True, client_seq=SEQ)
