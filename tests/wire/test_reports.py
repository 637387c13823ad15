"""Reports cross the wire unchanged, and no field of theirs is without a place in the protos."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from tests.wire.values import COUNT, REPORTS, record

from asynclm.session import effects
from asynclm.session.effects import CallRow, CallTimings, Finished, HostedUsage, InterruptRow, Report, Tokens, Usage
from asynclm.v1 import session_pb2, types_pb2
from asynclm.wire import (
    ReceivedEvent,
    Resumed,
    SessionTimings,
    Started,
    UnknownEvent,
    WireError,
    from_server_event,
    to_server_event,
)

ONEOF = {
    kind.__name__: "cancel_outcome"
    if kind is effects.CancelAnswered
    else "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("_")
    for kind in REPORTS
}


@pytest.mark.parametrize("kind", [*REPORTS, Started, Resumed], ids=lambda kind: kind.__name__)
def test_crosses_the_wire_unchanged(kind: type) -> None:
    @given(record(kind), COUNT, COUNT)
    def check(report: Any, sequence: int, time_ms: int) -> None:
        pb = to_server_event(report, sequence, time_ms)
        received = from_server_event(session_pb2.ServerEvent.FromString(pb.SerializeToString()))
        token_index = getattr(report, "token_index", 0)
        assert received == ReceivedEvent(sequence, token_index, time_ms, report)

    check()


@pytest.mark.parametrize("kind", REPORTS, ids=lambda kind: kind.__name__)
def test_every_field_of_a_report_has_its_place(kind: type) -> None:
    message = session_pb2.ServerEvent.DESCRIPTOR.fields_by_name[ONEOF[kind.__name__]].message_type
    here = {field.name for field in dataclasses.fields(kind)} - {"token_index"}
    there = set(message.fields_by_name) - {"timings"}
    assert here == there


@pytest.mark.parametrize(
    "kind", [CallRow, CallTimings, HostedUsage, InterruptRow, Usage], ids=lambda kind: kind.__name__
)
def test_every_field_of_the_ledger_has_its_place(kind: type) -> None:
    message = types_pb2.DESCRIPTOR.message_types_by_name[kind.__name__]
    assert {field.name for field in dataclasses.fields(kind)} == set(message.fields_by_name)


def test_every_event_of_the_proto_is_a_report() -> None:
    there = {field.name for field in session_pb2.ServerEvent.DESCRIPTOR.oneofs_by_name["event"].fields}
    assert there == {*ONEOF.values(), "started", "resumed"}


@given(record(Finished), record(SessionTimings))
def test_timings_travel_beside_finished(report: Report, timings: SessionTimings) -> None:
    received = from_server_event(to_server_event(report, 9, 10, timings=timings))
    assert (received.report, received.timings) == (report, timings)


def test_an_event_of_a_later_revision_is_unknown_not_an_error() -> None:
    later = session_pb2.ServerEvent(sequence=4).SerializeToString() + b"\xfa\x3e\x02\x08\x01"
    assert from_server_event(session_pb2.ServerEvent.FromString(later)).report == UnknownEvent()


def test_an_unknown_enum_value_is_named() -> None:
    pb = session_pb2.ServerEvent(sequence=1, notice=session_pb2.Notice())
    pb.notice.code = 99
    with pytest.raises(WireError, match="NOTICE_CODE has no member 99"):
        from_server_event(pb)


def test_an_unknown_capability_is_left_out() -> None:
    pb = to_server_event(Started(session_id="s", model="m"), 1, 0)
    pb.started.capabilities.append(99)
    report = from_server_event(pb).report
    assert isinstance(report, Started)
    assert report.capabilities == frozenset()


def test_zero_and_absent_differ() -> None:
    report = Tokens(token_index=0, ids=(), text="")
    assert from_server_event(to_server_event(report, 1, 0)).report == report
    row = from_server_event(
        to_server_event(
            effects.Probed(
                token_index=0, nonce="", state=effects.State.IDLE, credit=0, paused=False, queued=0, unresolved=()
            ),
            1,
            0,
        )
    ).report
    assert isinstance(row, effects.Probed)
    assert row.credit == 0
