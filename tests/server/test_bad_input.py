"""Bad input over a real socket: each a clear answer, nothing lost, and the server serves on."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from tests.server.harness import PROMPT, Harness, RawSession, Serve

from asynclm.cml.codec import EOS
from asynclm.cml.control import Control
from asynclm.cml.toolspec import ToolSpec
from asynclm.conformance.v1 import scripted_model_pb2
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptStep, ScriptText
from asynclm.engine.scripted import open_engine
from asynclm.prompt.template import CmlPart, Message, Role, TextPart
from asynclm.server.app import PortError, Server
from asynclm.server.options import ServerLimits, ServerOptions
from asynclm.session.config import Constraints, OnEnd
from asynclm.session.effects import (
    CallDispatched,
    CallSettled,
    CancelAnswered,
    Finished,
    InterruptAccepted,
    InterruptCommitted,
    InterruptRejected,
    Notice,
    Probed,
    TrapEntered,
)
from asynclm.session.events import (
    CancelRequested,
    CreditGranted,
    FinishRequested,
    InterruptReceived,
    ProbeRequested,
)
from asynclm.session.state import CancelOutcome, Delivery, FinishReason, NoticeCode, RejectReason, Result
from asynclm.v1 import control_pb2, session_pb2, types_pb2
from asynclm.wire.errors import StatusError, fault_from_rpc_error
from asynclm.wire.start import StartRequest
from asynclm.wire.values import Started

CALL, HEAD, END, TRAP, INTR = (
    ScriptControl(c) for c in (Control.CALL, Control.HEAD, Control.END, Control.TRAP, Control.INTR)
)
COPYING = ToolSpec(
    name="send", parameters={"type": "object", "properties": {"to": {"type": "string", "x-asynclm-copy": "any"}}}
)
ADD = ToolSpec(name="add", parameters={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})


def call(body: str, id: str | None = "x") -> tuple[ScriptStep, ...]:
    named = () if id is None else (ScriptText(id), HEAD)
    return (CALL, *named, ScriptText(body), END)


@pytest.fixture
async def h(serve: Serve) -> AsyncIterator[Harness]:
    """A server that has to serve on after whatever a test did to it."""
    harness: Harness = await serve()
    yield harness
    await harness.load("after", ScriptText("fine"), ScriptEnd())
    session = await harness.session(model="script:after")
    assert (await session.until(Finished)).reason is FinishReason.STOP


async def play(h: Harness, *steps: ScriptStep, **start: Any) -> list[Any]:
    await h.load("s", *steps, ScriptEnd())
    start.setdefault("tools", (ADD,))
    start.setdefault("constraints", Constraints.NONE)
    return await (await h.session(**start)).all()


def committed(reports: list[Any]) -> list[tuple[str, str, dict[str, Any]]]:
    found = [r for r in reports if isinstance(r, InterruptCommitted)]
    return [(r.source, str(r.status), json.loads(r.payload)) for r in found]


@pytest.mark.parametrize(
    ("steps", "source", "type_"),
    [
        (call("add(a=", "x"), "x", "syntax"),
        (call("add(a=1, a=2)", "x"), "x", "syntax"),
        (call("nothing()", "x"), "x", "unknown_function"),
        (call('add(a="one")', "x"), "x", "invalid_arguments"),
        (call("add()", "x"), "x", "invalid_arguments"),
        (call("add(a=nobody.n)", "x"), "x", "dependency"),
        ((CALL, ScriptText("x"), HEAD, ScriptText("add("), HEAD, ScriptText("1)"), END), "x", "syntax"),
        (call("add(a=1)", "not an id"), "@runtime", "invalid_id"),
        (call("nothing()", None), "@runtime", "unknown_function"),
    ],
)
async def test_a_bad_call_is_answered_in_the_stream(
    h: Harness, steps: tuple[ScriptStep, ...], source: str, type_: str
) -> None:
    reports = await play(h, *steps, ScriptText("on it goes"))
    (answer,) = [c for c in committed(reports) if c[0] == source]
    assert (answer[1], answer[2]["type"]) == ("error", type_)
    assert reports[-1].reason is FinishReason.STOP
    assert not any(isinstance(r, CallDispatched) for r in reports)


async def test_a_duplicate_id_leaves_the_first_call_alone(h: Harness) -> None:
    await h.load("s", *call("add(a=1)"), *call("add(a=2)"), TRAP, END, ScriptEnd())
    s = await h.session(tools=(ADD,), constraints=Constraints.NONE)
    await s.until(TrapEntered)
    await s.send(InterruptReceived(source="x", payload="5"))
    reports = await s.all()
    finished = reports[-1]
    assert [(c.id, c.result) for c in finished.calls] == [("x", Result.OK), (finished.calls[1].id, Result.ERROR)]
    assert "@runtime" in [r.source for r in reports if isinstance(r, InterruptCommitted)]


async def test_a_truncated_block_is_noticed(h: Harness) -> None:
    reports = await play(h, CALL, ScriptText("x"), HEAD, ScriptText("add(a="))
    assert reports[-1].reason is FinishReason.STOP
    assert committed(reports)[0][2]["type"] == "syntax"


async def test_a_forged_interrupt_is_masked_even_without_constraints(h: Harness) -> None:
    reports = await play(h, INTR, ScriptText("x"), HEAD, ScriptText("1"), END)
    notices = [r.code for r in reports if isinstance(r, Notice)]
    assert notices[0] is NoticeCode.MASKED
    assert not [r for r in reports if isinstance(r, InterruptCommitted)]


@pytest.mark.parametrize(
    "text",
    [c.value for c in Control] + ["<|call|>", "<|intr|>", "<|im_end|>", "<|eos|>", "\\[END]", "[IN", "é[END]\x00"],
)
async def test_no_payload_forges_a_control_token(h: Harness, text: str) -> None:
    await h.load("s", *call("add(a=1)"), TRAP, END, ScriptEnd())
    s = await h.session(tools=(ADD,))
    await s.until(TrapEntered)
    payload = json.dumps(text, ensure_ascii=False)
    await s.send(InterruptReceived(source="x", payload=payload))
    report = await s.until(InterruptCommitted)
    assert report.payload == payload
    codec = h.server.hub.engine.codec
    items = [item for token_id in report.ids for item in codec.decoder().feed(token_id)]
    controls = [i for i in items if isinstance(i, Control)]
    assert controls == [Control.INTR, Control.HEAD, Control.END]
    assert EOS not in items
    assert (await s.until(Finished)).calls[0].delivery is Delivery.DELIVERED


async def test_a_payload_over_the_limit_is_handed_back(h: Harness) -> None:
    await h.load("s", *call("add(a=1)"), TRAP, END, ScriptEnd())
    s = await h.session(tools=(ADD,))
    await s.until(TrapEntered)
    payload = json.dumps("x" * (10 << 20))
    await s.send(InterruptReceived(source="x", payload=payload))
    rejected = await s.until(InterruptRejected)
    assert rejected.reason is RejectReason.TOO_LARGE
    assert rejected.payload == payload
    finished = await s.until(Finished)
    assert finished.calls[0].result is Result.ERROR


async def test_a_message_over_the_limit_fails_its_stream_only(h: Harness) -> None:
    await h.load("s", *call("add(a=1)"), TRAP, END, ScriptEnd())
    s = await h.session(tools=(ADD,))
    await s.until(TrapEntered)
    await s.send(InterruptReceived(source="x", payload=json.dumps("x" * (17 << 20))))
    assert (await refusal(s)).code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("interrupt", "reason"),
    [
        ({"source": "x", "payload": "2"}, RejectReason.ALREADY_RESOLVED),
        ({"source": "nobody", "payload": "2"}, RejectReason.UNKNOWN_ID),
        ({"source": "@runtime", "payload": "2"}, RejectReason.BAD_SOURCE),
        ({"source": "@agent.", "payload": "2"}, RejectReason.BAD_SOURCE),
        ({"source": "held", "payload": "2"}, RejectReason.NOT_DISPATCHED),
    ],
)
async def test_a_result_nobody_waits_for_is_handed_back(
    h: Harness, interrupt: dict[str, Any], reason: RejectReason
) -> None:
    await h.load(
        "s", *call("add(a=1)"), *call("add(a=1)", "w"), *call("add(a=w)", "held"), ScriptText("."), ScriptEnd()
    )
    s = await h.session(tools=(ADD,), credit=1000, on_end=OnEnd.KEEP)
    await s.send(ProbeRequested(nonce="p"))
    await s.until(Probed)
    await s.send(InterruptReceived(source="x", payload="1"))
    await s.until(InterruptAccepted)
    await s.send(InterruptReceived(**interrupt))
    rejected = await s.until(InterruptRejected)
    assert (rejected.reason, rejected.payload) == (reason, "2")
    await s.send(FinishRequested())
    await s.until(Finished)


async def test_a_result_for_the_servers_own_call_is_refused(serve: Serve) -> None:
    async def never(x: int = 0) -> None:
        """Hangs."""
        import asyncio

        await asyncio.Event().wait()

    h = await serve([never])
    await h.load("s", *call("never()"), TRAP, END, ScriptEnd())
    s = await h.session()
    await s.until(TrapEntered)
    await s.send(InterruptReceived(source="x", payload="1"))
    assert (await s.until(InterruptRejected)).reason is RejectReason.NOT_OWNER
    await s.send(CancelRequested(id="x"))
    assert (await s.until(CancelAnswered)).outcome is CancelOutcome.CANCELLED
    assert (await s.until(Finished)).calls[0].result is Result.CANCELLED


async def test_a_trap_that_cannot_end_does_not_stop_and_stalls_in_the_end(h: Harness) -> None:
    reports = await play(h, TRAP, END, TRAP, ScriptText("nobody"), END, TRAP, ScriptText("all"), END, ScriptText("x"))
    assert reports[-1].reason is FinishReason.STALLED
    assert [c[:2] for c in committed(reports)] == [("@runtime", "error")] * 2


async def test_end_of_sequence_waits_for_what_is_pending(h: Harness) -> None:
    await h.load("s", *call("add(a=1)"), ScriptEnd(), ScriptText("more"), ScriptEnd())
    s = await h.session(tools=(ADD,))
    await s.send(ProbeRequested(nonce="p"))
    await s.until(CallDispatched)
    await s.send(InterruptReceived(source="x", payload="1"))
    finished = await s.until(Finished)
    assert finished.reason is FinishReason.STOP
    assert finished.calls[0].delivery is Delivery.DELIVERED


async def test_detached_calls_are_reported_undelivered(h: Harness) -> None:
    reports = await play(h, *call("add(a=1)"), on_end=OnEnd.DETACH)
    assert reports[-1].calls[0].delivery is Delivery.UNDELIVERED


@pytest.mark.parametrize(
    ("name", "status", "type_"),
    [("raises", "error", "tool"), ("nan", "error", "result"), ("unspeakable", "error", "result")],
)
async def test_a_tool_that_fails_is_data(serve: Serve, name: str, status: str, type_: str) -> None:
    def raises() -> None:
        """Raises."""
        raise RuntimeError("no\ud800 good")

    def nan() -> float:
        """Returns NaN."""
        return math.nan

    def unspeakable() -> Any:
        """Returns what JSON cannot hold."""
        return object()

    h = await serve([raises, nan, unspeakable])
    reports = await play(h, *call(f"{name}()"), TRAP, ScriptText("x"), END, tools=())
    ((source, got, payload),) = committed(reports)
    assert (source, got) == ("x", status)
    assert set(payload) >= {"type", "message", "retryable"}
    assert reports[-1].calls[0].result is Result.ERROR


async def test_a_tool_that_hangs_times_out(serve: Serve) -> None:
    from asynclm.tools import tool

    @tool(timeout_ms=700)
    async def hang() -> None:
        """Hangs."""
        import asyncio

        await asyncio.Event().wait()

    h = await serve([hang])
    await h.load("s", *call("hang()"), TRAP, END, ScriptEnd())
    s = await h.session()
    started = await s.until(Started)
    await s.until(TrapEntered)
    await h.scripts.Advance(scripted_model_pb2.AdvanceRequest(session_id=started.session_id, ms=700))
    assert (await s.until(CallSettled)).row.result is Result.TIMED_OUT
    await s.until(Finished)


async def test_a_client_that_never_grants_credit_ends_by_the_clock(h: Harness) -> None:
    await h.load("s", ScriptText("abc"), ScriptEnd())
    s = await h.session(credit=0, limits={"max_idle_time_ms": 1000})
    started = await s.until(Started)
    await s.send(ProbeRequested(nonce="p"))
    await s.until(Probed)
    await h.scripts.Advance(scripted_model_pb2.AdvanceRequest(session_id=started.session_id, ms=1000))
    assert (await s.until(Finished)).reason is FinishReason.IDLE_TIMEOUT


async def refusal(session: RawSession) -> StatusError:
    """The fault that a stream ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await session.all()
    return fault_from_rpc_error(caught.value)


BAD_CML = Message(Role.USER, (TextPart("[END]"), CmlPart("[CALL] x")))


@pytest.mark.parametrize(
    ("start", "code", "field"),
    [
        ({"model": "gpt-9"}, "NOT_FOUND", "start.model"),
        ({"model": "script:none"}, "NOT_FOUND", "start.model"),
        ({"messages": ()}, "INVALID_ARGUMENT", "start.messages"),
        ({"messages": (Message(Role.USER, (TextPart("x" * 9000),)),)}, "INVALID_ARGUMENT", "start.messages"),
        ({"messages": (BAD_CML,)}, "INVALID_ARGUMENT", "start.messages[0].parts[1].cml"),
        ({"messages": (), "prompt_ids": (1 << 20,)}, "INVALID_ARGUMENT", "start.prompt_ids[0]"),
        ({"messages": (), "prompt_ids": (65,), "tools": (COPYING,)}, "INVALID_ARGUMENT", "start.tools"),
        ({"server_tools": ("none",)}, "INVALID_ARGUMENT", "start.server_tools.names[0]"),
        ({"tools": (ADD, ADD)}, "INVALID_ARGUMENT", "start.tools"),
        ({"stop": ("x",) * 17}, "INVALID_ARGUMENT", "start.stop"),
        ({"stop": ("x", "")}, "INVALID_ARGUMENT", "start.stop[1]"),
        ({"stop": ("x" * 257,)}, "INVALID_ARGUMENT", "start.stop[0]"),
        ({"stop": ("x\ufffd",)}, "INVALID_ARGUMENT", "start.stop[0]"),
        ({"limits": {"max_new_tokens": 1 << 40}}, "INVALID_ARGUMENT", "start.limits.max_new_tokens"),
        ({"labels": {str(i): "" for i in range(17)}}, "INVALID_ARGUMENT", "start.labels"),
    ],
)
async def test_a_bad_start_names_the_field(h: Harness, start: dict[str, Any], code: str, field: str) -> None:
    await h.load("s", ScriptEnd())
    fault = await refusal(await h.session(**start))
    assert fault.code.name == code
    assert fault.violations[0].field.startswith(field)
    assert fault.message


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"temperature": -0.1}, "temperature is -0.1; allowed: 0 to 5"),
        ({"temperature": math.nan}, "temperature is nan; allowed: 0 to 5"),
        ({"top_k": -1}, "top_k is -1; allowed: 0 (all) or more"),
        ({"top_p": 0.0}, "top_p is 0.0; allowed: above 0, up to 1"),
        ({"min_p": 1.0}, "min_p is 1.0; allowed: 0 to below 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0; allowed: above 0, up to 10"),
        ({"presence_penalty": 2.1}, "presence_penalty is 2.1; allowed: -2 to 2"),
        ({"frequency_penalty": -math.inf}, "frequency_penalty is -inf; allowed: -2 to 2"),
        ({"top_logprobs": 1}, "top_logprobs is 1; allowed: 0, or up to 20 with logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs is 21; allowed: 0 to 20"),
    ],
)
async def test_sampling_out_of_range_is_refused_by_name(h: Harness, wrong: dict[str, Any], says: str) -> None:
    """[WIRE-012], [LIM-016]."""
    session = RawSession(h.inference.Session())
    user = types_pb2.Message(role=types_pb2.ROLE_USER, parts=[types_pb2.Part(text="Hi")])
    start = session_pb2.Start(messages=[user], sampling=types_pb2.Sampling(**wrong))
    await session.send_raw(session_pb2.ClientEvent(client_seq=1, start=start))
    assert await session.call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await session.call.details() == f"start.sampling.{says}"


async def test_a_gap_in_the_numbers_of_client_events_is_refused(h: Harness) -> None:
    await h.load("s", ScriptText("abc"), ScriptEnd())
    s = await h.session(credit=0)
    await s.until(Started)
    await s.send_raw(session_pb2.ClientEvent(client_seq=1, pause=session_pb2.Pause()))  # applied before: ignored
    await s.send_raw(session_pb2.ClientEvent(client_seq=3, pause=session_pb2.Pause()))
    fault = await refusal(s)
    assert (fault.code, fault.violations[0].field) == (grpc.StatusCode.INVALID_ARGUMENT, "client_seq")


async def test_a_grant_on_unlimited_credit_is_refused(h: Harness) -> None:
    await h.load("s", *call("add(a=1)"), TRAP, END, ScriptEnd())
    s = await h.session(tools=(ADD,))
    await s.until(TrapEntered)
    await s.send(CreditGranted(tokens=1))
    assert (await refusal(s)).code is grpc.StatusCode.FAILED_PRECONDITION


async def test_the_first_event_has_to_be_start(h: Harness) -> None:
    raw = RawSession(h.inference.Session())
    await raw.send_raw(session_pb2.ClientEvent(client_seq=1, pause=session_pb2.Pause()))
    assert (await refusal(raw)).violations[0].field == "event"
    raw = RawSession(h.inference.Session())
    await raw.call.done_writing()
    assert (await refusal(raw)).violations[0].field == "start"


async def test_scripts_are_bounded_by_what_is_published(serve: Serve) -> None:
    """[SCR-012], [LIM-001]."""
    h = await serve(limits=ServerLimits(max_script_steps=2, max_scripts=1, start_timeout_s=1.5))
    published = (await h.control.GetServerInfo(control_pb2.GetServerInfoRequest())).server_limits
    assert (published.max_script_steps, published.max_scripts, published.start_timeout_ms) == (2, 1, 1500)
    await h.load("s", ScriptText("abc"), ScriptEnd())
    with pytest.raises(grpc.RpcError) as caught:
        await h.load("s", ScriptText("abc"), ScriptText("d"), ScriptEnd())
    fault = fault_from_rpc_error(caught.value)
    assert (fault.code, fault.violations[0].field) == (grpc.StatusCode.INVALID_ARGUMENT, "steps")
    with pytest.raises(grpc.RpcError) as caught:
        await h.load("another", ScriptEnd())
    fault = fault_from_rpc_error(caught.value)
    assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_SCRIPTS")
    assert (await (await h.session()).until(Finished)).reason is FinishReason.STOP


async def test_a_full_server_refuses_and_serves_on(serve: Serve) -> None:
    h = await serve(limits=ServerLimits(max_sessions=1))
    await h.load("s", ScriptText("abc"), ScriptEnd())
    first = await h.session(credit=0)
    await first.until(Started)
    assert (await refusal(await h.session(credit=0))).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    await first.send(FinishRequested())
    await first.until(Finished)
    assert (await (await h.session()).until(Finished)).reason is FinishReason.STOP


async def test_a_port_in_use_is_said_plainly(serve: Serve) -> None:
    h = await serve()
    second = Server(open_engine(), ServerOptions(port=h.server.port))
    with pytest.raises(PortError, match="in use"):
        await second.start()
    await second.stop()


async def test_a_token_is_asked_for_on_every_rpc_but_health(serve: Serve) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from asynclm.v1 import control_pb2

    h = await serve(token="secret")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await h.control.GetServerInfo(control_pb2.GetServerInfoRequest())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    info = await h.control.GetServerInfo(
        control_pb2.GetServerInfoRequest(), metadata=(("authorization", "Bearer secret"),)
    )
    assert info.protocol_revision
    checked = await health_pb2_grpc.HealthStub(h.channel).Check(health_pb2.HealthCheckRequest())
    assert checked.status == health_pb2.HealthCheckResponse.SERVING


def test_plaintext_beyond_loopback_has_to_be_asked_for() -> None:
    with pytest.raises(ValueError, match="insecure-allow-remote"):
        ServerOptions(host="0.0.0.0")
    ServerOptions(host="0.0.0.0", allow_remote_plaintext=True)


async def test_a_draining_server_lets_sessions_finish(serve: Serve) -> None:
    h = await serve()
    await h.load("s", *call("add(a=1)"), TRAP, END, ScriptEnd())
    s = await h.session(tools=(ADD,))
    await s.until(TrapEntered)
    await h.server.drain()
    finished = await s.until(Finished)
    assert finished.reason is FinishReason.DRAINED
    assert finished.calls[0].result is Result.CANCELLED


def test_start_request_defaults_are_the_protocols() -> None:
    start = StartRequest(messages=PROMPT)
    assert start.on_end is OnEnd.WAIT
