"""What peers, engines and chance can do to a server: each costs its own session at most, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from tests.server.harness import PATIENCE_S, PROMPT, Harness, RawSession, Serve, turns

from asynclm.cml import schema_check
from asynclm.cml.control import Control
from asynclm.cml.toolspec import ToolSpec
from asynclm.conformance.v1 import scripted_model_pb2
from asynclm.engine.base import EngineError, SequenceId
from asynclm.engine.loop import SessionNotFoundError
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptStep, ScriptText
from asynclm.engine.scripted import open_engine
from asynclm.server import event_stream
from asynclm.server.event_stream import EventStream
from asynclm.server.options import ServerLimits
from asynclm.session.config import Constraints, Limits, OnEnd
from asynclm.session.effects import (
    CallDispatched,
    Finished,
    InterruptAccepted,
    InterruptCommitted,
    InterruptRejected,
    Notice,
    Probed,
    StateChanged,
    TrapEntered,
)
from asynclm.session.events import (
    CreditGranted,
    FinishRequested,
    InterruptReceived,
    PauseChanged,
    ProbeRequested,
)
from asynclm.session.state import Delivery, FinishReason, NoticeCode, RejectReason, Result, UndeliveredReason
from asynclm.tools import tool
from asynclm.v1 import control_pb2, session_pb2
from asynclm.wire.client_events import client_event_to_pb
from asynclm.wire.errors import fault_from_rpc_error
from asynclm.wire.start import StartRequest
from asynclm.wire.values import OnDisconnect, Started

CALL, HEAD, END, TRAP = (ScriptControl(c) for c in (Control.CALL, Control.HEAD, Control.END, Control.TRAP))
F = ToolSpec(name="f", parameters={"type": "object"})


def call(name: str, body: str = "f()") -> tuple[ScriptStep, ...]:
    return (CALL, ScriptText(name), HEAD, ScriptText(body), END)


def sound(session: RawSession) -> None:
    """The stream keeps every rule that always holds."""
    assert not (broken := session.broken()), "\n".join(map(str, broken))


async def opened(h: Harness, session: RawSession) -> Any:
    started = await session.until(Started)
    return h.server.hub.registry.get(started.session_id)


async def ended(record: Any) -> Finished:
    async with asyncio.timeout(PATIENCE_S):
        await record.done.wait()
    assert record.finished is not None
    finished: Finished = record.finished
    return finished


@pytest.fixture
async def h(serve: Serve) -> AsyncIterator[Harness]:
    """A server that has to serve on after whatever a test did to it."""
    harness: Harness = await serve()
    yield harness
    await harness.load("after", ScriptText("fine"), ScriptEnd())
    session = await harness.session(model="script:after")
    assert (await session.until(Finished)).reason is FinishReason.STOP


# --- messages that are none ----------------------------------------------------------------------------------------

UNREADABLE = [b"\xff\xff\xff", b"\x08\x02\x22\x06\x0a\x04@us\xff", b"\x08\x02\x22\x06\x0a\x04@\xed\xa0\x80"]
"""No protobuf; text that is no UTF-8; half of a surrogate pair."""


def raw_session(h: Harness) -> Any:
    method = h.channel.stream_stream("/asynclm.v1.Inference/Session", bytes, session_pb2.ServerEvent.FromString)
    return method()


async def fault_of(stream: Any) -> Any:
    try:
        while await stream.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return fault_from_rpc_error(error)
    raise AssertionError("the stream ended without a fault")


@pytest.mark.parametrize("data", UNREADABLE)
async def test_what_cannot_be_read_is_refused_and_starts_nothing(h: Harness, data: bytes) -> None:
    """[ERR-047]."""
    stream = raw_session(h)
    await stream.write(data)
    fault = await fault_of(stream)
    assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNREADABLE")


@pytest.mark.parametrize("data", UNREADABLE)
async def test_what_cannot_be_read_drops_the_stream_that_it_comes_on(h: Harness, data: bytes) -> None:
    """[ERR-047, WIRE-035]: what came before it stands."""
    await h.load("s", *call("a"), TRAP, END, ScriptEnd())
    stream = raw_session(h)
    start = StartRequest(model="script:s", messages=PROMPT, tools=(F,), on_disconnect=OnDisconnect.CANCEL)
    await stream.write(client_event_to_pb(start, 1).SerializeToString())
    first = await stream.read()
    record = h.server.hub.registry.get(first.started.session_id)
    assert record is not None
    await stream.write(data)
    assert (await fault_of(stream)).reason == "UNREADABLE"
    finished = await ended(record)
    assert finished.reason is FinishReason.DISCONNECTED
    assert finished.calls[0].result is Result.CANCELLED


@pytest.mark.parametrize(
    "method",
    ["/asynclm.v1.Control/GetSession", "/asynclm.v1.Control/AbortSessions", "/asynclm.v1.Inference/Generate"],
)
async def test_unary_requests_that_cannot_be_read_are_refused(h: Harness, method: str) -> None:
    """[ERR-047]: not as a fault of the server."""
    generate = method.endswith("Generate")
    make = h.channel.unary_stream if generate else h.channel.unary_unary
    answer = make(method, bytes, bytes)(b"\x0a\x02\xff\xfe")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (answer.read() if generate else answer)
    fault = fault_from_rpc_error(caught.value)
    assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNREADABLE")


# --- faults of a client come behind what it was told --------------------------------------------------------------


async def test_a_client_reads_all_that_came_before_its_fault(h: Harness) -> None:
    """[WIRE-035, INT-021]: an interrupt that was refused is handed back, though the next event ends the stream."""
    await h.load("s", ScriptText("abc"), ScriptEnd())
    s = await h.session(credit=0)
    await s.until(Started)
    await s.send(InterruptReceived(source="nobody", payload="precious"))
    await s.send_raw(session_pb2.ClientEvent(client_seq=9, pause=session_pb2.Pause()))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await s.all()
    assert fault_from_rpc_error(caught.value).reason == "SEQUENCE_GAP"
    assert [e.report.payload for e in s.events if isinstance(e.report, InterruptRejected)] == ["precious"]


# --- sizes ---------------------------------------------------------------------------------------------------------


async def test_a_ledger_of_any_size_reaches_its_client(h: Harness) -> None:
    """[LIM-012, LIM-013, INT-045]: 24 MB that were never delivered, on a server whose messages have 16 MB at most."""
    await h.load("s", ScriptText("abc"), ScriptEnd())
    s = await h.session(credit=0)
    await s.until(Started)
    for _ in range(24):
        await s.send(InterruptReceived(source="@user", payload="x" * (1 << 20)))
    await s.send(FinishRequested())
    finished = await s.until(Finished)
    assert [len(row.payload) for row in finished.interrupts] == [1 << 20] * 24
    sound(s)


async def test_kept_ledgers_are_bounded_in_bytes(serve: Serve) -> None:
    """[LIM-001]: the last one is kept in any case."""
    h = await serve(limits=ServerLimits(keep_finished_bytes=1000))
    await h.load("s", ScriptText("abc"), ScriptEnd())
    ids = []
    for _ in range(3):
        s = await h.session(credit=0)
        record = await opened(h, s)
        ids.append(record.session_id)
        await s.send(InterruptReceived(source="@user", payload="x" * 800))
        await s.send(FinishRequested())
        await s.until(Finished)
    await (await h.session()).until(Finished)
    kept = [known.session_id for known in h.server.hub.registry.records()]
    assert [session_id in kept for session_id in ids] == [False, False, True]


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1])
async def test_a_payload_of_exactly_the_limit_is_taken(h: Harness, size: int) -> None:
    """[LIM-005, INT-022]: bytes of UTF-8 are counted."""
    await h.load("s", *call("a"), TRAP, END, ScriptEnd())
    s = await h.session(tools=(F,))
    await s.until(TrapEntered)
    payload = json.dumps("é" * ((size - 2) // 2) + "x" * (size % 2), ensure_ascii=False)
    assert len(payload.encode()) == size
    await s.send(InterruptReceived(source="a", payload=payload))
    finished = await s.until(Finished)
    assert finished.reason is (FinishReason.CONTEXT_FULL if size == 1 << 20 else FinishReason.STOP)
    rejected = [e.report for e in s.events if isinstance(e.report, InterruptRejected)]
    assert [r.reason for r in rejected] == ([] if size == 1 << 20 else [RejectReason.TOO_LARGE])
    sound(s)


async def test_credit_and_clocks_end_before_they_overflow(h: Harness) -> None:
    most = (1 << 63) - 1
    await h.load("s", ScriptText("abc"), ScriptEnd())
    s = await h.session(credit=0, limits={"max_idle_time_ms": 600_000})
    record = await opened(h, s)
    await s.send(PauseChanged(paused=True))
    await s.send(CreditGranted(tokens=most))
    await s.send(CreditGranted(tokens=most))
    await s.send(ProbeRequested(nonce="p"))
    assert (await s.until(Probed)).credit == most
    request = scripted_model_pb2.AdvanceRequest(session_id=record.session_id, ms=most)
    done = await h.scripts.Advance(request)
    assert done.now_ms > 1 << 60
    assert (await s.until(Finished)).reason is FinishReason.IDLE_TIMEOUT


# --- floods --------------------------------------------------------------------------------------------------------


async def test_thousands_of_interrupts_are_each_answered_and_most_refused(h: Harness) -> None:
    """[INT-020, LIM-008]."""
    await h.load("s", ScriptText("abc"), ScriptEnd())
    s = await h.session(credit=0, limits={"max_queued": 10, "context_length": 2000})
    await s.until(Started)

    async def flood() -> None:
        for number in range(1_500):
            await s.send(InterruptReceived(source="@user", payload=str(number)))
        await s.send(FinishRequested())

    flooding = asyncio.create_task(flood())
    finished = await s.until(Finished)
    await flooding
    answers = [e.report for e in s.events if isinstance(e.report, InterruptAccepted | InterruptRejected)]
    assert [a.client_seq for a in answers] == list(range(2, 1_502))
    assert {r.reason for r in answers[10:]} == {RejectReason.QUEUE_FULL}
    assert len(finished.interrupts) == 10
    sound(s)


@pytest.mark.slow
async def test_two_hundred_sessions_at_once(serve: Serve) -> None:
    h = await serve([], limits=ServerLimits(max_sessions=200))
    await h.load("s", *call("a"), *call("b", "f(v=a)"), TRAP, ScriptText("b"), END, ScriptText("so"), ScriptEnd())

    async def live() -> RawSession:
        s = await h.session(tools=(F,))
        for name in ("a", "b"):
            await s.until(CallDispatched)
            await s.send(InterruptReceived(source=name, payload="1"))
        await s.all()
        return s

    for s in await asyncio.gather(*(live() for _ in range(200))):
        assert s.events[-1].report.reason is FinishReason.STOP
        sound(s)


async def test_a_schema_that_asks_for_endless_work_costs_its_own_call(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[SES-006, CALL-094]: arguments are checked beside every other session."""
    monkeypatch.setattr(schema_check, "MOST_WORK", 5_000)
    steps = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(64)}
    bomb = ToolSpec(
        name="bomb",
        parameters={
            "type": "object",
            "properties": {"v": {"$ref": "#/$defs/d0"}, "w": {"pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}},
            "$defs": {**steps, "d64": {}},
        },
    )
    await h.load("s", *call("a", "bomb(v=1)"), *call("b", f'bomb(w="{"a" * 400}")'), ScriptText("."), ScriptEnd())
    s = await h.session(tools=(bomb,), constraints=Constraints.NONE)
    finished = await s.until(Finished)
    committed = [e.report for e in s.events if isinstance(e.report, InterruptCommitted)]
    assert [json.loads(report.payload)["type"] for report in committed] == ["invalid_arguments"] * 2
    assert [row.result for row in finished.calls] == [Result.ERROR] * 2
    sound(s)


# --- clients that do not read --------------------------------------------------------------------------------------

STRAYS = [ScriptText("x" * 50), END] * 200
"""Each stray `[END]` ends an event, and is noticed: 75 kB on the wire, in 10,200 tokens."""


class Narrow:
    """A server whose sessions may be long, and clients that take in no more than a few kilobytes unread."""

    def __init__(self, h: Harness) -> None:
        options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16_384)]
        self.h = h
        self.channel = grpc.aio.insecure_channel(h.server.address, options=options)
        self.narrow = Harness(h.server, self.channel)

    async def unread(self, **start: Any) -> tuple[RawSession, Any, int]:
        """A session that its client does not read: its stream, its record, and where it stopped."""
        await self.h.load("long", *STRAYS, ScriptEnd())
        s = await self.narrow.session(
            model="script:long", limits={"max_new_tokens": 20_000}, constraints=Constraints.NONE, **start
        )
        record = await opened(self.h, s)
        loop = self.h.server.hub.loop
        async with asyncio.timeout(PATIENCE_S):
            while (await self._look(record))[0] or not record.stream._told.held or not self._stuck(record):
                pass
        return s, record, (await asyncio.wrap_future(loop.inspect(record.session_id, lambda m: m.token_index)))

    async def _look(self, record: Any) -> tuple[bool, int]:
        look = self.h.server.hub.loop.inspect(record.session_id, lambda m: (m.can_step, m.token_index))
        return await asyncio.wrap_future(look)

    def _stuck(self, record: Any) -> bool:
        """Nothing has been sent since it was last asked."""
        taken, self._taken = getattr(self, "_taken", -1), record.stream.sent
        return taken == self._taken


@pytest.fixture
async def narrow(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Narrow]:
    monkeypatch.setattr(event_stream, "MOST_UNREAD", 20_000)
    h = await serve(session_limits=Limits(max_new_tokens=1 << 17, context_length=1 << 17))
    made = Narrow(h)
    yield made
    await made.channel.close()


async def test_a_client_that_does_not_read_holds_its_session_and_no_other(narrow: Narrow) -> None:
    """[WIRE-060, WIRE-061]: decoding stops long before the script ends, and goes on once the client reads."""
    s, record, index = await narrow.unread()
    assert index < 8_000
    await narrow.h.load("other", ScriptText("fine"), ScriptEnd())
    other = await narrow.h.session(model="script:other")
    assert (await other.until(Finished)).reason is FinishReason.STOP
    assert (await narrow._look(record))[1] < 8_000  # the sockets' own buffers may have taken in a little more
    finished = await s.until(Finished)
    assert (finished.reason, finished.usage.sampled_tokens) == (FinishReason.STOP, 10_201)
    sound(s)


async def test_a_client_that_never_reads_ends_by_the_clock(narrow: Narrow) -> None:
    """[SES-081, WIRE-061]."""
    s, record, _ = await narrow.unread()
    hub = narrow.h.server.hub
    async with asyncio.timeout(PATIENCE_S):
        while not record.done.is_set():  # the sockets' own buffers may take in a little more and wake it once again
            with contextlib.suppress(SessionNotFoundError):
                await asyncio.wrap_future(hub.loop.advance(record.session_id, 1_000_000))
    finished = await ended(record)
    assert finished.reason is FinishReason.IDLE_TIMEOUT
    assert finished.token_index < 8_000
    s.call.cancel()


async def test_a_client_that_leaves_while_much_waits_for_it(narrow: Narrow) -> None:
    """[WIRE-017]: the server is in the middle of a send that cannot end."""
    s, record, _ = await narrow.unread(on_disconnect=OnDisconnect.CANCEL)
    s.call.cancel()
    assert (await ended(record)).reason is FinishReason.DISCONNECTED


async def test_a_detached_session_whose_client_did_not_read_goes_on(narrow: Narrow) -> None:
    """[WIRE-097]: what was held for its reader is held no more."""
    s, record, _ = await narrow.unread(on_disconnect=OnDisconnect.DETACH)
    s.call.cancel()
    finished = await ended(record)
    assert (finished.reason, finished.usage.sampled_tokens) == (FinishReason.STOP, 10_201)


async def test_a_client_that_writes_and_does_not_read_is_not_read_either(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[WIRE-061]: what it would be answered does not pile up; when it reads, it is answered in full."""
    monkeypatch.setattr(event_stream, "MOST_UNREAD", 1 << 20)
    await h.load("s", ScriptText("abc"), ScriptEnd())
    s = await h.session(credit=0)
    record = await opened(h, s)
    refused = 100

    async def write() -> None:
        for _ in range(refused):
            await s.send(InterruptReceived(source="nobody", payload="x" * (1 << 20)))

    writing = asyncio.create_task(write())
    stream = record.stream
    await turns(lambda: stream._backlog.unread > 1 << 20)
    for _ in range(200):  # the event loop turns, and the client writes as long as anybody takes it
        await asyncio.sleep(0)
        assert stream._backlog.unread < 4 << 20
    assert not writing.done()
    for _ in range(refused):
        assert len((await s.until(InterruptRejected)).payload) == 1 << 20
    await writing
    await s.send(FinishRequested())
    await s.until(Finished)


async def test_probes_without_end_wait_outside(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """[LIM-001]: a session that runs on keeps a bounded number of probes; each is answered once it rests."""
    monkeypatch.setattr(event_stream, "MOST_PROBES", 5)
    await h.load("s", ScriptText("x" * 3_000), ScriptEnd())
    s = await h.session(credit=800)
    for number in range(50):
        await s.send(ProbeRequested(nonce=str(number)))
    for number in range(50):
        assert (await s.until(Probed)).nonce == str(number)
    await s.send(FinishRequested())
    await s.until(Finished)
    sound(s)


# --- streams that break off ----------------------------------------------------------------------------------------


async def test_streams_that_break_off_at_any_moment_leave_nothing_behind(h: Harness) -> None:
    """[WIRE-016, WIRE-017]: while the session is being opened, too."""
    await h.load("s", *call("a"), TRAP, END, ScriptEnd())
    for moment in range(60):
        s = RawSession(h.inference.Session())
        start = StartRequest(model="script:s", messages=PROMPT, tools=(F,), on_disconnect=OnDisconnect.CANCEL)
        await s.send(start)
        for _ in range(moment):
            await asyncio.sleep(0)
        s.call.cancel()
    hub = h.server.hub
    await turns(lambda: not hub.registry.open_sessions and not hub.loop._sessions)


@pytest.mark.parametrize("how", ["cancel", "close"])
@pytest.mark.parametrize("start", [{"credit": 0}, {"on_end": OnEnd.KEEP}, {}])
async def test_a_stream_that_breaks_off_is_no_half_close(h: Harness, how: str, start: dict[str, Any]) -> None:
    """[WIRE-016, WIRE-017]: what could have ended it otherwise does not come first."""
    await h.load("s", *call("a"), TRAP, END, ScriptText("gone"), ScriptEnd())
    channel = grpc.aio.insecure_channel(h.server.address)
    s = await Harness(h.server, channel).session(tools=(F,), on_disconnect=OnDisconnect.CANCEL, **start)
    record = await opened(h, s)
    if "credit" not in start:
        await s.until(TrapEntered)
    if how == "cancel":
        s.call.cancel()
    await channel.close()
    finished = await ended(record)
    assert finished.reason is FinishReason.DISCONNECTED
    assert [row.reason for row in finished.calls] == [UndeliveredReason.CANCELLED_AT_END] * len(finished.calls)


@pytest.mark.slow
async def test_a_client_that_vanishes_without_a_word_is_missed(serve: Serve) -> None:
    """[ERR-040]: its connection stands, and nothing comes any more."""
    h = await serve(limits=ServerLimits(keepalive_s=0.5))
    await h.load("s", *call("a"), TRAP, END, ScriptEnd())
    vanished = asyncio.Event()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if vanished.is_set():
                await asyncio.Event().wait()
            writer.write(data)

    links: list[asyncio.Task[None]] = []

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up, down = await asyncio.open_connection("127.0.0.1", h.server.port)
        links.extend(asyncio.create_task(pass_on(*ends)) for ends in ((reader, down), (up, writer)))
        await asyncio.wait(links)
        for end in (down, writer):
            end.close()

    proxy = await asyncio.start_server(between, "127.0.0.1", 0)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
    s = await Harness(h.server, channel).session(tools=(F,), on_disconnect=OnDisconnect.CANCEL)
    record = await opened(h, s)
    await s.until(TrapEntered)
    vanished.set()
    finished = await ended(record)
    assert (finished.reason, finished.calls[0].result) == (FinishReason.DISCONNECTED, Result.CANCELLED)
    proxy.close()
    for link in links:
        link.cancel()
    await asyncio.gather(*links, return_exceptions=True)
    await channel.close()


async def test_questions_that_break_off_do_not_stop_the_server(h: Harness) -> None:
    """Rpcs that wait for the engine's thread, cancelled at any moment."""
    await h.load("s", ScriptText("abc"), ScriptEnd())
    s = await h.session(credit=0)
    record = await opened(h, s)
    for moment in range(60):
        asked = [
            h.control.GetSession(control_pb2.GetSessionRequest(session_id=record.session_id)),
            h.scripts.Advance(scripted_model_pb2.AdvanceRequest(session_id=record.session_id, ms=1)),
        ]
        for _ in range(moment):
            await asyncio.sleep(0)
        for question in asked:
            question.cancel()
    await s.send(FinishRequested())
    await s.until(Finished)


# --- half-close ----------------------------------------------------------------------------------------------------


async def test_half_close_resolves_what_the_client_owes(h: Harness) -> None:
    """[SES-082, SES-083]: dispatched, held and emitted later; the session goes on."""
    await h.load(
        "s", *call("a"), *call("b", "f(v=a)"), TRAP, ScriptText("b"), END, *call("c"), ScriptText("end"), ScriptEnd()
    )
    s = await h.session(tools=(F,))
    await s.until(TrapEntered)
    await s.call.done_writing()
    await s.all()
    finished = s.events[-1].report
    assert finished.reason is FinishReason.STOP
    assert [row.result for row in finished.calls] == [Result.CANCELLED] * 3
    assert [row.delivery for row in finished.calls] == [Delivery.DELIVERED] * 3
    sound(s)


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ({"credit": 0}, FinishReason.FINISHED_BY_CLIENT),
        ({"credit": 2}, FinishReason.FINISHED_BY_CLIENT),
        ({"on_end": OnEnd.KEEP}, FinishReason.STOP),
        ({"credit": 1000}, FinishReason.STOP),
    ],
)
async def test_half_close_ends_what_nothing_can_start_again(
    h: Harness, start: dict[str, Any], reason: FinishReason
) -> None:
    """[SES-084, SES-085]."""
    await h.load("s", ScriptText("abc"), ScriptEnd())
    s = await h.session(**start)
    await s.call.done_writing()
    await s.all()
    assert s.events[-1].report.reason is reason
    sound(s)


# --- tools of the server -------------------------------------------------------------------------------------------


async def test_the_sessions_clock_alone_times_its_calls_out(serve: Serve) -> None:
    """[SCR-021, CALL-054]: on a manual clock a tool has all the time in the world."""
    asked, go = threading.Event(), threading.Event()

    @tool(timeout_ms=1)
    def slow() -> str:
        """Takes its time."""
        asked.set()
        assert go.wait(PATIENCE_S)
        return "done"

    @tool
    async def quick() -> str:
        """Ends when timers of the tools' event loop that are due earlier have fired."""
        await asyncio.to_thread(asked.wait, PATIENCE_S)
        await asyncio.sleep(0.01)
        return "quick"

    h = await serve([slow, quick])
    await h.load("s", *call("a", "slow()"), *call("b", "quick()"), TRAP, ScriptText("b"), END, TRAP, END, ScriptEnd())
    s = await h.session()
    first = await s.until(InterruptCommitted)
    assert (first.source, first.payload) == ("b", '"quick"')
    go.set()
    second = await s.until(InterruptCommitted)
    assert (second.source, second.payload) == ("a", '"done"')
    await s.until(Finished)


async def test_a_failed_anonymous_call_is_told_in_words_that_can_be_sent(serve: Serve) -> None:
    """[CALL-045]: half of a surrogate pair is no text."""

    def fails() -> None:
        """Raises."""
        raise RuntimeError("half \ud83d of it")

    h = await serve([fails])
    await h.load("s", CALL, ScriptText("fails()"), END, ScriptEnd())
    s = await h.session(on_end=OnEnd.KEEP)
    notice = await s.until(Notice)
    assert notice.code is NoticeCode.TOOL
    await s.send(FinishRequested())
    await s.until(Finished)
    sound(s)


# --- engines -------------------------------------------------------------------------------------------------------


async def test_a_fault_of_the_engine_is_an_end_with_a_ledger(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """[ERR-008, ERR-005]: the rpc ends with OK."""
    engine = open_engine()
    h = await serve(engine=engine)
    await h.load("s", *call("a"), ScriptText("lost"), ScriptEnd())
    sound_step = engine.step

    def step(requests: Any) -> Any:
        for request in requests:
            if request.forced == ord("o"):
                raise EngineError("the row is gone", sequence=SequenceId(request.sequence))
        return sound_step(requests)

    monkeypatch.setattr(engine, "step", step)
    s = await h.session(tools=(F,))
    await s.all()
    finished = s.events[-1].report
    assert (finished.reason, finished.message) == (FinishReason.ENGINE_ERROR, "the row is gone")
    assert [row.id for row in finished.calls] == ["a"]
    assert await s.call.code() is grpc.StatusCode.OK
    sound(s)


async def test_an_engine_without_room_refuses_and_nobody_waits_for_the_session(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[WIRE-115, WIRE-130]: those who ask about it, end it or drain the server meanwhile are answered."""
    engine = open_engine()
    h = await serve(engine=engine)
    await h.load("s", ScriptText("abc"), ScriptEnd())
    opening, go = threading.Event(), threading.Event()

    def full(*_: object, **__: object) -> SequenceId:
        opening.set()
        assert go.wait(PATIENCE_S)
        raise EngineError("no room for another sequence")

    monkeypatch.setattr(engine, "open", full)
    s = await h.session()
    await asyncio.to_thread(opening.wait, PATIENCE_S)
    (record,) = h.server.hub.registry.records()
    waiting = [
        asyncio.ensure_future(
            h.control.AbortSessions(control_pb2.AbortSessionsRequest(session_ids=[record.session_id]))
        ),
        asyncio.ensure_future(h.control.ListSessions(control_pb2.ListSessionsRequest())),
        asyncio.ensure_future(h.server.hub.drain(PATIENCE_S)),
    ]
    for _ in range(20):
        await asyncio.sleep(0)
    go.set()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*waiting)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await s.all()
    assert fault_from_rpc_error(caught.value).reason == "ENGINE_FULL"


# --- the end of the server -----------------------------------------------------------------------------------------


async def test_stopping_in_the_middle_of_everything(serve: Serve) -> None:
    """[WIRE-130, WIRE-131]: every client that reads has its ledger; new sessions are refused; nobody hangs."""

    async def hang() -> None:
        """Never ends."""
        await asyncio.Event().wait()

    h = await serve([hang])
    await h.load("s", *call("a"), *call("b", "hang()"), TRAP, END, ScriptEnd())
    await h.load("idle", ScriptEnd())
    await h.load("poor", ScriptText("abc"))
    trapped = await h.session(tools=(F,))
    idle = await h.session(model="script:idle", on_end=OnEnd.KEEP)
    poor = await h.session(model="script:poor", credit=0)
    await trapped.until(TrapEntered)
    await idle.until(StateChanged)
    await poor.until(Started)
    stopping = [asyncio.create_task(h.server.stop()), asyncio.create_task(h.server.stop())]
    ends = [await s.until(Finished) for s in (trapped, idle, poor)]
    assert {finished.reason for finished in ends} == {FinishReason.DRAINED}
    assert [row.result for row in ends[0].calls] == [Result.CANCELLED] * 2
    for s in (trapped, idle, poor):
        assert await s.next() is None
        sound(s)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*stopping)


@pytest.mark.slow
async def test_a_stream_that_never_says_what_it_wants_does_not_keep_the_server(serve: Serve) -> None:
    """[WIRE-130]."""
    h = await serve()
    mute = RawSession(h.inference.Session())
    await mute.call.wait_for_connection()
    await h.server.stop()
    with pytest.raises(grpc.aio.AioRpcError):
        await mute.all()


async def test_a_draining_server_refuses_new_sessions_and_lets_old_ones_end(serve: Serve) -> None:
    """[WIRE-130]."""
    h = await serve()
    await h.load("s", *call("a"), TRAP, END, ScriptText("so"), ScriptEnd())
    s = await h.session(tools=(F,))
    await s.until(TrapEntered)
    draining = asyncio.create_task(h.server.hub.drain(PATIENCE_S))
    await turns(lambda: h.server.hub.draining)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (await h.session()).all()
    assert fault_from_rpc_error(caught.value).reason == "DRAINING"
    await s.send(InterruptReceived(source="a", payload="1"))
    assert (await s.until(Finished)).reason is FinishReason.STOP
    async with asyncio.timeout(PATIENCE_S):
        await draining


# --- a stream's books ----------------------------------------------------------------------------------------------


async def test_a_stream_whose_event_loop_is_gone_takes_reports_all_the_same() -> None:
    """The engine's thread meets it while a server stops."""
    loop = asyncio.new_event_loop()
    loop.close()
    stream = EventStream(loop, lambda _: None, lambda _: None)
    assert stream.sink([]) is None
    stream.attach().fail(RuntimeError("nobody hears it"))
