"""Sessions that outlive their streams: resumed, superseded, left alone, and never resumed."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest
from tests.server.harness import PATIENCE_S, PROMPT, Harness, RawSession, Serve, turns

from asynclm.cml.control import Control
from asynclm.cml.toolspec import ToolSpec
from asynclm.conformance.v1 import scripted_model_pb2
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptStep, ScriptText
from asynclm.server import event_stream
from asynclm.server.options import ServerLimits, ServerOptions
from asynclm.server.registry import SessionRecord
from asynclm.session.config import Constraints, Limits
from asynclm.session.effects import (
    Finished,
    InterruptAccepted,
    InterruptCommitted,
    InterruptRejected,
    Probed,
    Tokens,
    TrapEntered,
    TrapExited,
)
from asynclm.session.events import (
    CreditGranted,
    FinishRequested,
    InterruptReceived,
    PauseChanged,
    ProbeRequested,
)
from asynclm.session.state import FinishReason, Result
from asynclm.v1 import control_pb2, inference_pb2, session_pb2, types_pb2
from asynclm.wire.client_events import AckReceived, ResumeAsked, client_event_to_pb
from asynclm.wire.errors import StatusError, fault_from_rpc_error
from asynclm.wire.start import StartRequest, start_to_pb
from asynclm.wire.values import Capability, OnDisconnect, Resumed, Started

CALL, HEAD, END, TRAP = (ScriptControl(c) for c in (Control.CALL, Control.HEAD, Control.END, Control.TRAP))
F = ToolSpec(name="f", parameters={"type": "object"})


def call(name: str, body: str = "f()") -> tuple[ScriptStep, ...]:
    return (CALL, ScriptText(name), HEAD, ScriptText(body), END)


@pytest.fixture
async def h(serve: Serve) -> Harness:
    harness: Harness = await serve()
    await harness.load("s", *call("a"), TRAP, END, ScriptText("so"), ScriptEnd())
    await harness.load("words", ScriptText("abcdefgh"), ScriptEnd())
    return harness


def record_of(h: Harness, started: Started) -> SessionRecord:
    record = h.server.hub.registry.get(started.session_id)
    assert record is not None
    return record


async def detached(h: Harness, session: RawSession, started: Started) -> SessionRecord:
    """Breaks a session's stream off and waits until the server has noticed."""
    await session.drop()
    record = record_of(h, started)
    await turns(lambda: not record.attached)
    return record


async def fault_of(session: RawSession) -> StatusError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await session.all()
    return fault_from_rpc_error(caught.value)


async def sync(session: RawSession, nonce: str) -> Probed:
    await session.send(ProbeRequested(nonce=nonce))
    while (probed := await session.until(Probed)).nonce != nonce:
        pass
    return probed


async def ended(record: SessionRecord) -> Finished:
    async with asyncio.timeout(PATIENCE_S):
        await record.done.wait()
    assert record.finished is not None
    return record.finished


# --- taking a session up again --------------------------------------------------------------------------------------


async def test_what_was_missed_is_sent_again_unchanged_and_then_what_is_new(h: Harness) -> None:
    """[WIRE-090, WIRE-091, WIRE-092, WIRE-097]: the call waits for its client, who answers on the new stream."""
    first = await h.session(tools=(F,))
    started = await first.until(Started)
    await first.until(TrapEntered)
    await detached(h, first, started)
    second = await h.resume(started.session_id, 3)
    resumed = await second.until(Resumed)
    assert resumed == Resumed(last_client_seq=1, last_event_seq=first.events[-1].sequence, started=started)
    await second.until(TrapEntered)
    assert second.messages[1:] == first.messages[3:]
    assert second.messages[0].token_index == first.messages[3].token_index
    await second.send(InterruptReceived(source="a", payload="1"))
    assert (await second.until(InterruptAccepted)).client_seq == 2
    assert (await second.until(Finished)).calls[0].result is Result.OK
    assert await second.next() is None
    numbers = [event.sequence for event in second.events]
    assert numbers == [0, *range(4, 4 + len(numbers) - 1)]


async def test_events_keep_the_number_and_content_that_they_were_first_sent_with(h: Harness) -> None:
    """[WIRE-064, WIRE-092]: each stream has read at its own pace; all of it is in every replay."""
    first = await h.session(model="script:words", credit=0)
    started = await first.until(Started)
    for number in range(4):
        await first.send(CreditGranted(tokens=1))
        await sync(first, str(number))
    await detached(h, first, started)
    second = await h.resume(started.session_id, 0, seq=first.seq)
    while second.events[-1:] == [] or second.events[-1].sequence < first.events[-1].sequence:
        await second.next()
    assert second.messages[1:] == first.messages
    await second.send(CreditGranted(tokens=100))
    await second.all()
    third = await h.resume(started.session_id, 0, seq=second.seq)
    await third.all()
    assert third.messages[1:] == second.messages[1:]
    assert third.messages[-1].finished == second.messages[-1].finished
    assert await third.call.code() is grpc.StatusCode.OK


async def test_a_detached_session_goes_on_as_if_its_client_were_silent(serve: Serve) -> None:
    """[WIRE-018, WIRE-097, SES-083]: it decodes, its server's tools run; a client's call is not taken for lost."""
    go = threading.Event()

    def own() -> str:
        """Waits to be let go."""
        assert go.wait(PATIENCE_S)
        return "done"

    h = await serve([own])
    script = (*call("a"), *call("b", "own()"), TRAP, ScriptText("b"), END, ScriptText("on"), TRAP, ScriptText("a"), END)
    await h.load("s", *script, ScriptText("so"), ScriptEnd())
    first = await h.session(tools=(F,))
    started = await first.until(Started)
    await first.until(TrapEntered)
    record = await detached(h, first, started)
    go.set()
    while await asyncio.wrap_future(h.server.hub.loop.inspect(started.session_id, lambda m: m.pending_calls)) > 1:
        pass
    second = await h.resume(started.session_id, first.events[-1].sequence)
    assert (await second.until(InterruptCommitted)).payload == '"done"'
    await second.until(TrapEntered)
    await second.send(InterruptReceived(source="a", payload="1"))
    assert [row.result for row in (await second.until(Finished)).calls] == [Result.OK, Result.OK]
    assert record.finished is not None


async def test_a_finished_session_is_resumed_within_the_grace_period(h: Harness) -> None:
    """[WIRE-098, WIRE-040, WIRE-015]: its last events may have been lost on their way; all may have come."""
    first = await h.session(model="script:words", credit=3)
    started = await first.until(Started)
    await sync(first, "rest")
    await first.send(CreditGranted(tokens=100))
    record = record_of(h, started)
    await ended(record)
    await detached(h, first, started)
    second = await h.resume(started.session_id, first.events[-1].sequence, seq=first.seq)
    await second.send(CreditGranted(tokens=1))
    finished = await second.until(Finished)
    assert "".join(e.report.text for e in first.events + second.events if isinstance(e.report, Tokens)) == "abcdefgh"
    assert await second.next() is None
    assert await second.call.code() is grpc.StatusCode.OK
    await turns(lambda: not record.attached)
    third = await h.resume(started.session_id, second.events[-1].sequence)
    assert [type(report) for report in await third.all()] == [Resumed]
    assert await third.call.code() is grpc.StatusCode.OK
    assert finished.reason is FinishReason.STOP


async def test_a_session_that_is_cancelled_with_its_stream_can_be_read_to_its_end(h: Harness) -> None:
    """[WIRE-017, WIRE-098]."""
    first = await h.session(tools=(F,), on_disconnect=OnDisconnect.CANCEL)
    started = await first.until(Started)
    await first.until(TrapEntered)
    await ended(await detached(h, first, started))
    second = await h.resume(started.session_id, first.events[-1].sequence)
    finished = await second.until(Finished)
    assert (finished.reason, finished.calls[0].result) == (FinishReason.DISCONNECTED, Result.CANCELLED)


async def test_a_half_closed_session_is_detached_as_any_other(h: Harness) -> None:
    """[SES-082, SES-083, WIRE-016]: what its client owed stays cancelled; it is not held up, and can be read."""
    await h.load("s", *call("a"), TRAP, END, ScriptText("word" * 50), TRAP, END, ScriptEnd())
    first = await h.session(tools=(F,))
    started = await first.until(Started)
    await first.until(TrapEntered)
    await first.call.done_writing()
    await first.until(TrapExited)
    record = await detached(h, first, started)
    assert (await ended(record)).reason is FinishReason.STOP
    second = await h.resume(started.session_id, first.events[-1].sequence)
    assert (await second.until(Finished)).calls[0].result is Result.CANCELLED


async def test_a_half_close_of_a_resumed_stream_is_one(h: Harness) -> None:
    """[WIRE-021, SES-085]."""
    first = await h.session(model="script:words", credit=1)
    started = await first.until(Started)
    await detached(h, first, started)
    second = await h.resume(started.session_id, 1)
    await second.call.done_writing()
    assert (await second.until(Finished)).reason is FinishReason.FINISHED_BY_CLIENT


async def test_the_sessions_clock_and_the_grace_period_have_nothing_to_do_with_each_other(h: Harness) -> None:
    """[SCR-021]: a detached session's manual clock moves only as before, and its timers fire."""
    first = await h.session(tools=(F,))
    started = await first.until(Started)
    await first.until(TrapEntered)
    record = await detached(h, first, started)
    await h.scripts.Advance(scripted_model_pb2.AdvanceRequest(session_id=started.session_id, ms=299_999))
    assert record.finished is None
    await h.scripts.Advance(scripted_model_pb2.AdvanceRequest(session_id=started.session_id, ms=1))
    assert (await ended(record)).calls[0].result is Result.TIMED_OUT


# --- client events over several streams -----------------------------------------------------------------------------


async def test_client_events_are_numbered_over_all_streams(h: Harness) -> None:
    """[WIRE-030, WIRE-032, WIRE-033, WIRE-099]."""
    first = await h.session(model="script:words", credit=0)
    started = await first.until(Started)
    await first.send(CreditGranted(tokens=2))
    await sync(first, "a")
    await detached(h, first, started)
    second = await h.resume(started.session_id, first.events[-1].sequence)
    assert (await second.until(Resumed)).last_client_seq == 3
    await second.send(CreditGranted(tokens=100))  # its number, 2, has been applied
    await second.send(ProbeRequested(nonce="ignored"))
    await second.send(CreditGranted(tokens=1))
    assert (await sync(second, "b")).credit == 0
    assert [e.report.nonce for e in second.events if isinstance(e.report, Probed)] == ["b"]
    await second.send_raw(session_pb2.ClientEvent(client_seq=7, pause=session_pb2.Pause()))
    assert (await fault_of(second)).reason == "SEQUENCE_GAP"
    record = record_of(h, started)
    await turns(lambda: not record.attached)
    third = await h.resume(started.session_id, second.events[-1].sequence)
    assert (await third.until(Resumed)).last_client_seq == 5
    assert record.finished is None, "[WIRE-035]: the fault changed nothing"


async def test_nothing_after_a_refused_event_takes_effect(h: Harness) -> None:
    """[WIRE-031, WIRE-035, WIRE-073]: what was sent with it is sent again, and applied once."""
    first = await h.session(tools=(F,))
    started = await first.until(Started)
    await first.until(TrapEntered)
    await first.send(PauseChanged(paused=True))
    await first.send(CreditGranted(tokens=1))
    await first.send(InterruptReceived(source="a", payload="1"))
    fault = await fault_of(first)
    assert (fault.code, fault.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROTOCOL")
    await turns(lambda: not record_of(h, started).attached)
    second = await h.resume(started.session_id, first.events[-1].sequence, seq=2)
    assert (await second.until(Resumed)).last_client_seq == 2
    assert (await sync(second, "p")).unresolved == ("a",)
    await second.send(InterruptReceived(source="a", payload="2"))
    await second.send(PauseChanged(paused=False))
    assert (await second.until(InterruptAccepted)).client_seq == 4
    assert (await second.until(InterruptCommitted)).payload == "2"
    await second.until(Finished)


@pytest.mark.parametrize(
    ("first", "field", "reason"),
    [
        (client_event_to_pb(ResumeAsked("s-1", 0), 1), "client_seq", "SEQUENCE_GAP"),
        (client_event_to_pb(ResumeAsked("s-1", -1), 0), "resume.last_event_seq", "BAD_FIELD"),
        (client_event_to_pb(StartRequest(messages=PROMPT), 1), "event", "BAD_EVENT"),
        (session_pb2.ClientEvent(), "event", "BAD_EVENT"),
        (None, "resume", "BAD_FIELD"),
    ],
)
async def test_the_first_event_has_to_be_a_sound_resume(
    h: Harness, first: session_pb2.ClientEvent | None, field: str, reason: str
) -> None:
    """[WIRE-090]."""
    stream = RawSession(h.inference.Resume())
    await stream.call.wait_for_connection()
    if first is None:
        await stream.call.done_writing()
    else:
        await stream.send_raw(first)
    fault = await fault_of(stream)
    assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert [violation.field for violation in fault.violations] == [field]


async def test_a_resume_has_its_place_at_the_beginning_only(h: Harness) -> None:
    """[WIRE-010, WIRE-034, WIRE-090]."""
    session = RawSession(h.inference.Session())
    await session.call.wait_for_connection()
    await session.send_raw(client_event_to_pb(ResumeAsked("s-1", 0), 0))
    assert (await fault_of(session)).reason == "BAD_EVENT"
    session = await h.session(model="script:words", credit=0)
    started = await session.until(Started)
    await session.send(ResumeAsked(started.session_id, 0))
    assert (await fault_of(session)).reason == "BAD_EVENT"


# --- two streams ----------------------------------------------------------------------------------------------------


async def test_the_second_stream_wins(h: Harness) -> None:
    """[WIRE-096]: the first ends ABORTED; what its client said stands; what its end brings about is nothing."""
    first = await h.session(model="script:words", credit=1, on_disconnect=OnDisconnect.CANCEL)
    started = await first.until(Started)
    await first.send(CreditGranted(tokens=2))
    await sync(first, "a")
    second = await h.resume(started.session_id, 1, seq=first.seq)
    assert (await second.until(Resumed)).last_client_seq == 3
    fault = await fault_of(first)
    assert (fault.code, fault.reason) == (grpc.StatusCode.ABORTED, "SUPERSEDED")
    record = record_of(h, started)
    assert record.attached
    assert (await sync(second, "b")).credit == 0
    assert "".join(e.report.text for e in second.events if isinstance(e.report, Tokens)) == "abc"
    await second.send(CreditGranted(tokens=100))
    assert (await second.until(Finished)).reason is FinishReason.STOP


async def test_of_many_streams_at_once_one_is_left(h: Harness) -> None:
    """[WIRE-096]."""
    first = await h.session(model="script:words", credit=0)
    started = await first.until(Started)
    streams = [first, *await asyncio.gather(*(h.resume(started.session_id) for _ in range(10)))]
    record = record_of(h, started)

    async def live(stream: RawSession) -> str:
        try:
            await stream.all()
        except grpc.aio.AioRpcError as error:
            return fault_from_rpc_error(error).reason
        return stream.kinds[-1]

    living = [asyncio.ensure_future(live(stream)) for stream in streams]
    await turns(lambda: sum(life.done() for life in living) == 10)
    assert record.attached
    await h.control.AbortSessions(control_pb2.AbortSessionsRequest(session_ids=[started.session_id]))
    async with asyncio.timeout(PATIENCE_S):
        assert sorted(await asyncio.gather(*living)) == ["Finished"] + ["SUPERSEDED"] * 10


async def test_a_stream_whose_client_does_not_read_gives_way(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """[WIRE-060, WIRE-096]: the other one need not wait for the first to get rid of what it was sending."""
    monkeypatch.setattr(event_stream, "MOST_UNREAD", 20_000)
    h = await serve(session_limits=Limits(max_new_tokens=1 << 17, context_length=1 << 17))
    await h.load("long", *[ScriptText("x" * 50), END] * 200, ScriptEnd())
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16_384)]
    async with grpc.aio.insecure_channel(h.server.address, options=options) as channel:
        first = await Harness(h.server, channel).session(model="script:long", constraints=Constraints.NONE)
        started = await first.until(Started)
        await turns(lambda: record_of(h, started).stream._told.held)
        second = await h.resume(started.session_id)
        assert (await second.until(Finished)).usage.sampled_tokens == 10_201
        assert [event.sequence for event in second.events] == list(range(len(second.events)))
        assert (await fault_of(first)).reason == "SUPERSEDED"


async def test_a_resume_that_breaks_off_leaves_the_session_to_the_next(h: Harness) -> None:
    """[WIRE-016]: at any moment."""
    first = await h.session(model="script:words", credit=0)
    started = await first.until(Started)
    record = await detached(h, first, started)
    for moment in range(40):
        stream = await h.resume(started.session_id)
        for _ in range(moment):
            await asyncio.sleep(0)
        stream.call.cancel()
    last = await h.resume(started.session_id)
    await last.until(Started)
    assert record.attached
    await last.send(FinishRequested())
    await last.until(Finished)


# --- what is kept ---------------------------------------------------------------------------------------------------


async def test_what_is_not_kept_cannot_be_resumed_from(h: Harness) -> None:
    """[WIRE-093, WIRE-095]: acknowledged, never sent, unknown; whoever is refused takes nothing from who is there."""
    first = await h.session(model="script:words", credit=3)
    started = await first.until(Started)
    await sync(first, "a")
    last = first.events[-1].sequence
    await first.send(AckReceived(last - 1))
    await sync(first, "b")
    for after in (0, last - 2, last + 2, 1 << 60):
        fault = await fault_of(await h.resume(started.session_id, after))
        assert (fault.code, fault.reason) == (grpc.StatusCode.OUT_OF_RANGE, "NOT_KEPT")
    fault = await fault_of(await h.resume("s-unknown"))
    assert (fault.code, fault.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SESSION")
    await sync(first, "c")
    second = await h.resume(started.session_id, last - 1, seq=first.seq)
    await second.until(Probed)
    assert [e.sequence for e in second.events] == [0, last]


async def test_an_ack_of_what_was_never_sent_is_refused(h: Harness) -> None:
    """[WIRE-034]."""
    session = await h.session(model="script:words", credit=0)
    await session.until(Started)
    await session.send(AckReceived(2))
    fault = await fault_of(session)
    assert [violation.field for violation in fault.violations] == ["ack.sequence"]


async def test_at_the_limit_decoding_stops_until_an_ack(serve: Serve) -> None:
    """[WIRE-094, WIRE-081, WIRE-036]: as without credit: probes are answered, interrupts taken, and nothing is lost."""
    h = await serve(limits=ServerLimits(max_kept_events=8))
    await h.load("s", *[ScriptText("x"), END] * 30, ScriptEnd())
    session = await h.session(credit=1_000, constraints=Constraints.NONE)
    started = await session.until(Started)
    probed = await sync(session, "held")
    assert probed.credit is not None
    assert probed.credit > 900
    assert len(session.events) <= 12
    await session.send(InterruptReceived(source="@user", payload="hello"))
    await session.until(InterruptAccepted)
    assert (await sync(session, "still held")).token_index == probed.token_index
    await detached(h, session, started)
    other = await h.resume(started.session_id, seq=session.seq)
    while other.events[-1:] == [] or other.events[-1].sequence < session.events[-1].sequence:
        await other.next()
    assert other.messages[1:] == session.messages
    while not isinstance(other.events[-1].report, Finished):
        await other.send(AckReceived(other.events[-1].sequence))
        await other.next()
    assert other.events[-1].report.usage.sampled_tokens == 61


async def test_a_detached_session_stops_at_the_limit_too(serve: Serve) -> None:
    """[WIRE-094, WIRE-097]: as if its client were there and acknowledged nothing."""
    h = await serve(limits=ServerLimits(max_kept_events=8))
    await h.load("s", *[ScriptText("x"), END] * 30, ScriptEnd())
    session = await h.session(credit=0, constraints=Constraints.NONE)
    started = await session.until(Started)
    await sync(session, "before")
    await session.send(CreditGranted(tokens=1_000))
    record = await detached(h, session, started)
    look = h.server.hub.loop.inspect
    async with asyncio.timeout(PATIENCE_S):
        while await asyncio.wrap_future(look(started.session_id, lambda m: m.can_step or m.credit == 0)):
            pass
    assert record.stream.last_sequence in range(8, 13)
    assert record.finished is None
    other = await h.resume(started.session_id, session.events[-1].sequence, seq=session.seq)
    assert (await sync(other, "after")).credit


async def test_a_session_that_nobody_acknowledges_ends_by_the_clock(serve: Serve) -> None:
    """[SES-080, SES-081, WIRE-094]: as without credit."""
    h = await serve(limits=ServerLimits(max_kept_events=2))
    await h.load("s", ScriptText("x"), END, ScriptText("y"), ScriptEnd())
    session = await h.session(constraints=Constraints.NONE, limits={"max_idle_time_ms": 1_000})
    started = await session.until(Started)
    await sync(session, "held")
    await h.scripts.Advance(scripted_model_pb2.AdvanceRequest(session_id=started.session_id, ms=1_000))
    assert (await session.until(Finished)).reason is FinishReason.IDLE_TIMEOUT


async def test_what_a_server_keeps_is_bounded_in_bytes(serve: Serve) -> None:
    """[LIM-001]: a client that acknowledges nothing and has its payloads handed back loses what it was sent first."""
    h = await serve(limits=ServerLimits(max_kept_bytes=10_000))
    await h.load("s", ScriptText("abc"), ScriptEnd())
    session = await h.session(credit=0)
    started = await session.until(Started)
    for _ in range(30):
        await session.send(InterruptReceived(source="nobody", payload="x" * 1_000))
        await session.until(InterruptRejected)
    assert record_of(h, started).stream.kept_bytes < 20_000
    await detached(h, session, started)
    assert (await fault_of(await h.resume(started.session_id, 1))).reason == "NOT_KEPT"
    last = session.events[-1].sequence
    other = await h.resume(started.session_id, last - 5, seq=session.seq)
    await other.send(FinishRequested())
    await other.until(Finished)
    assert [event.sequence for event in other.events][:6] == [0, *range(last - 4, last + 1)]


# --- the grace period -----------------------------------------------------------------------------------------------


async def test_a_session_that_nobody_resumes_is_ended_with_the_grace_period(serve: Serve) -> None:
    """[WIRE-018]: its calls are cancelled, and its ledger stays [WIRE-020]; its events do not [WIRE-095]."""
    h = await serve(resume_grace_s=0.01)
    await h.load("s", *call("a"), TRAP, END, ScriptEnd())
    session = await h.session(tools=(F,))
    started = await session.until(Started)
    await session.until(TrapEntered)
    record = record_of(h, started)
    await session.drop()
    finished = await ended(record)
    assert (finished.reason, finished.calls[0].result) == (FinishReason.DISCONNECTED, Result.CANCELLED)
    detail = await h.control.GetSession(control_pb2.GetSessionRequest(session_id=started.session_id))
    assert [row.id for row in detail.calls] == ["a"]
    assert record.stream.kept_bytes == 0
    for after in (1, detail.last_event_seq):
        assert (await fault_of(await h.resume(started.session_id, after))).reason == "NOT_KEPT"


async def test_the_grace_period_is_over_for_finished_sessions_as_well(serve: Serve) -> None:
    """[WIRE-098]."""
    h = await serve(resume_grace_s=0.01)
    await h.load("s", ScriptText("abc"), ScriptEnd())
    session = await h.session()
    started = await session.until(Started)
    await session.all()
    record = record_of(h, started)
    await turns(lambda: not record.resumable)
    assert record.stream.kept_bytes == 0
    assert (await fault_of(await h.resume(started.session_id, 1))).reason == "NOT_KEPT"


async def test_a_session_that_is_resumed_has_all_the_time_in_the_world(h: Harness) -> None:
    """[WIRE-018]: until its stream is dropped again."""
    session = await h.session(model="script:words", credit=0)
    started = await session.until(Started)
    record = await detached(h, session, started)
    grace = record.grace
    assert grace is not None
    session = await h.resume(started.session_id)
    await session.until(Started)
    assert grace.cancelled()
    assert record.grace is None
    assert (await detached(h, session, started)).grace is not grace


async def test_who_is_attached_is_listed(h: Harness) -> None:
    """[WIRE-112]."""
    session = await h.session(model="script:words", credit=0)
    started = await session.until(Started)

    async def attached() -> list[bool]:
        page = await h.control.ListSessions(control_pb2.ListSessionsRequest())
        return [summary.attached for summary in page.sessions]

    assert await attached() == [True]
    await detached(h, session, started)
    assert await attached() == [False]
    await (await h.resume(started.session_id)).until(Started)
    assert await attached() == [True]


async def test_a_server_stops_with_detached_sessions(h: Harness) -> None:
    """[WIRE-130]: they are ended as others are, and nobody waits for a grace period."""
    session = await h.session(tools=(F,))
    started = await session.until(Started)
    await session.until(TrapEntered)
    record = await detached(h, session, started)
    async with asyncio.timeout(PATIENCE_S):
        await h.server.stop()
    assert (await ended(record)).reason is FinishReason.DRAINED
    assert record.grace is not None
    assert record.grace.cancelled()


async def test_a_draining_server_lets_sessions_be_resumed(h: Harness) -> None:
    """[WIRE-130]: they are not new."""
    session = await h.session(tools=(F,))
    started = await session.until(Started)
    await session.until(TrapEntered)
    await detached(h, session, started)
    draining = asyncio.create_task(h.server.hub.drain(PATIENCE_S))
    await turns(lambda: h.server.hub.draining)
    other = await h.resume(started.session_id)
    await other.until(TrapEntered)
    await other.send(InterruptReceived(source="a", payload="1"))
    assert (await other.until(Finished)).reason is FinishReason.STOP
    async with asyncio.timeout(PATIENCE_S):
        await draining


# --- what is offered ------------------------------------------------------------------------------------------------


async def test_resuming_is_declared_with_its_limits(h: Harness) -> None:
    """[WIRE-003, WIRE-019, LIM-001]."""
    info = await h.control.GetServerInfo(control_pb2.GetServerInfoRequest())
    assert session_pb2.CAPABILITY_RESUME in info.capabilities
    assert (info.server_limits.resume_grace_ms, info.server_limits.max_kept_events) == (30_000, 32_768)
    session = await h.session(model="script:words", credit=0)
    started = await session.until(Started)
    assert Capability.RESUME in started.capabilities
    assert started.on_disconnect is OnDisconnect.DETACH


async def test_a_server_without_a_grace_period_offers_no_resume(serve: Serve) -> None:
    """[WIRE-002, WIRE-019, WIRE-025]: DETACH is then as good as a half-close, and CANCEL the default."""
    h = await serve(resume_grace_s=0)
    await h.load("words", ScriptText("abc"), ScriptEnd())
    info = await h.control.GetServerInfo(control_pb2.GetServerInfoRequest())
    assert session_pb2.CAPABILITY_RESUME not in info.capabilities
    assert (info.server_limits.resume_grace_ms, info.server_limits.max_kept_events) == (0, 0)
    session = await h.session(model="script:words", credit=0)
    started = await session.until(Started)
    assert started.on_disconnect is OnDisconnect.CANCEL
    fault = await fault_of(await h.resume(started.session_id))
    assert (fault.code, fault.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NO_RESUME")
    await session.drop()
    assert (await ended(record_of(h, started))).reason is FinishReason.DISCONNECTED
    session = await h.session(model="script:words", credit=0, on_disconnect=OnDisconnect.DETACH)
    started = await session.until(Started)
    await session.drop()
    record = record_of(h, started)
    assert (await ended(record)).reason is FinishReason.FINISHED_BY_CLIENT
    assert record.stream.kept_bytes == 0


async def test_a_generation_has_no_way_back(h: Harness) -> None:
    """[WIRE-102]."""
    start = StartRequest(model="script:words", messages=PROMPT, on_disconnect=OnDisconnect.DETACH)
    stream = h.inference.Generate(inference_pb2.GenerateRequest(start=start_to_pb(start)))
    first = await stream.read()
    assert first.started.on_disconnect == types_pb2.ON_DISCONNECT_CANCEL
    while await stream.read() is not grpc.aio.EOF:
        pass
    assert (await fault_of(await h.resume(first.started.session_id))).reason == "NOT_KEPT"


def test_a_grace_period_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="resume_grace_s is -1"):
        ServerOptions(resume_grace_s=-1)
