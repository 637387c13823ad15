"""Streams that break: a session goes on as if nothing had happened, where its server can do that, and else says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from tests.client.breakable import Way, way_to
from tests.client.player import playing
from tests.client.scripts import EOS, TRAP, call

from asynclm.client import (
    AsyncLM,
    AsyncLMError,
    FinishReason,
    InvalidRequestError,
    ProtocolError,
    SessionClosedError,
    Tokens,
    UnavailableError,
    UnsupportedError,
)
from asynclm.client import line as client_line
from asynclm.engine.scripted import open_engine
from asynclm.server.app import Server
from asynclm.server.options import ServerLimits, ServerOptions
from asynclm.session.state import Delivery
from asynclm.v1 import inference_pb2_grpc, session_pb2
from asynclm.wire import Capability, OnDisconnect, ResumeAsked, Started, client_event_to_pb, to_server_event

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
async def way(server: Server) -> AsyncIterator[Way]:
    async with way_to(server.port) as made:
        yield made


@pytest.fixture
async def llm(way: Way) -> AsyncIterator[AsyncLM]:
    async with AsyncLM(f"127.0.0.1:{way.port}") as client:
        await client.load_script("letters", [*LETTERS, EOS])
        yield client


async def attached(server: Server, session_id: str, *, now: bool) -> None:
    """Waits until a session has a stream, or none."""
    record = server.hub.registry.get(session_id)
    assert record is not None
    async with asyncio.timeout(60):
        while record.attached is not now:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


async def test_a_session_outlives_its_stream_and_each_event_comes_once(llm: AsyncLM, way: Way) -> None:
    """[WIRE-092]: cut wherever it stands, again and again."""
    numbers = []
    async with llm.session("Hi", model="script:letters", credit=0) as session:
        for _ in range(len(LETTERS)):
            await session.grant(1)
            await session.probe()
            way.cut()
        await session.grant(1)
        async for event in session:
            numbers.append(event.sequence)
        result = await session.result()
    assert (result.text, result.reason) == (LETTERS, FinishReason.STOP)
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_tool_that_runs_meanwhile_answers_on_the_next_stream(llm: AsyncLM, server: Server, way: Way) -> None:
    """[WIRE-097, WIRE-099]."""
    begun, go = asyncio.Event(), asyncio.Event()
    runs = 0

    async def slow() -> str:
        """Takes its time."""
        nonlocal runs
        runs += 1
        begun.set()
        await go.wait()
        return "done"

    await llm.load_script("s", [*call("a", "slow()"), *TRAP, "so", EOS])
    async with llm.session("Hi", model="script:s", tools=[slow]) as session:
        await begun.wait()
        way.cut()
        await attached(server, session.session_id, now=False)
        go.set()
        result = await session.result()
    assert runs == 1
    assert (result.calls[0].delivery, result.text) == (Delivery.DELIVERED, "so")


async def test_what_is_said_while_there_is_no_stream_is_sent_on_the_next_one(
    llm: AsyncLM, server: Server, way: Way
) -> None:
    """[WIRE-099, WIRE-030]: in order, and once."""
    async with llm.session("Hi", model="script:letters", credit=0) as session:
        way.clear.clear()
        way.cut()
        await attached(server, session.session_id, now=False)
        saying = [asyncio.ensure_future(session.interrupt(f"{number}")) for number in range(3)]
        granting = [asyncio.ensure_future(session.grant(10)) for _ in range(3)]
        await asyncio.sleep(0)
        way.clear.set()
        assert [accepted.number for accepted in await asyncio.gather(*saying)] == [0, 1, 2]
        await asyncio.gather(*granting)
        result = await session.result()
    assert [row.payload for row in result.interrupts] == [""] * 3
    assert result.text == LETTERS


async def test_a_server_that_keeps_little_is_told_what_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """[WIRE-093, WIRE-094]: nobody who only listens has to think of it."""
    monkeypatch.setattr(client_line, "ACK_EVERY", 5)
    options = ServerOptions(port=0, drain_seconds=0.0, limits=ServerLimits(max_kept_events=10))
    async with Server(open_engine(), options) as server, AsyncLM(server.address) as llm:
        await llm.load_script("calls", [*(part for n in range(50) for part in call(f"c{n}", "f()")), EOS])
        result = await llm.session("Hi", model="script:calls", constraints="none").result()
        assert len(result.calls) == 50


async def test_less_is_acknowledged_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_line, "ACK_SECONDS", 0.001)
    options = ServerOptions(port=0, drain_seconds=0.0, limits=ServerLimits(max_kept_events=10))
    async with Server(open_engine(), options) as server, AsyncLM(server.address) as llm:
        await llm.load_script("calls", [*(part for n in range(20) for part in call(f"c{n}", "f()")), EOS])
        assert len((await llm.session("Hi", model="script:calls", constraints="none").result()).calls) == 20


async def test_a_server_that_does_not_come_back_is_given_up(
    llm: AsyncLM, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_line, "RETRY_SECONDS", (0.0, 0.0, 0.0))
    async with llm.session("Hi", model="script:letters", credit=0) as session:
        way.refuses = True
        way.cut()
        with pytest.raises(UnavailableError):
            await session.result()
        with pytest.raises(UnavailableError):
            await session.grant(1)


async def test_a_session_that_is_to_be_cancelled_is_not_taken_up_again(llm: AsyncLM, server: Server, way: Way) -> None:
    """[WIRE-017]."""
    async with llm.session("Hi", model="script:letters", credit=0, on_disconnect="cancel") as session:
        way.cut()
        with pytest.raises(UnavailableError):
            await session.result()
        record = server.hub.registry.get(session.session_id)
        assert record is not None
        await record.done.wait()
        assert record.finished is not None
        assert record.finished.reason is FinishReason.DISCONNECTED


async def test_who_comes_too_late_is_told_so() -> None:
    """[WIRE-095]."""
    options = ServerOptions(port=0, drain_seconds=0.0, resume_grace_s=0.01)
    async with (
        Server(open_engine(), options) as server,
        way_to(server.port) as way,
        AsyncLM(f"127.0.0.1:{way.port}") as llm,
    ):
        await llm.load_script("letters", [*LETTERS, EOS])
        async with llm.session("Hi", model="script:letters", credit=0) as session:
            way.clear.clear()
            way.cut()
            record = server.hub.registry.get(session.session_id)
            assert record is not None
            await record.done.wait()
            way.clear.set()
            with pytest.raises(InvalidRequestError) as caught:
                await session.result()
            assert caught.value.reason == "NOT_KEPT"


async def test_whoever_takes_a_session_up_has_it(llm: AsyncLM, server: Server) -> None:
    """[WIRE-096]: the one before does not take it back."""
    async with (
        grpc.aio.insecure_channel(server.address) as channel,
        llm.session("Hi", model="script:letters", credit=0) as session,
    ):
        stub: Any = inference_pb2_grpc.InferenceStub(channel)
        other = stub.Resume()
        await other.write(client_event_to_pb(ResumeAsked(session.session_id, 0), 0))
        assert (await other.read()).HasField("resumed")
        with pytest.raises(SessionClosedError) as caught:
            await session.result()
        assert caught.value.reason == "SUPERSEDED"
        await attached(server, session.session_id, now=True)
        other.cancel()


async def test_a_session_can_be_closed_while_its_stream_is_broken(
    llm: AsyncLM, server: Server, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asynclm.client.session.CLOSE_SECONDS", 0.01)
    async with llm.session("Hi", model="script:letters", credit=0) as session:
        way.clear.clear()
        way.cut()
        await attached(server, session.session_id, now=False)
    assert not session.finished


def resumable() -> session_pb2.ServerEvent:
    started = Started(
        session_id="s-1", model="m", capabilities=frozenset({Capability.RESUME}), on_disconnect=OnDisconnect.DETACH
    )
    return to_server_event(started, 1, 0)


async def breaks_off(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
    yield resumable()
    await context.abort(grpc.StatusCode.UNAVAILABLE, "going away")


async def says_something_else(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
    yield to_server_event(Tokens(token_index=0, ids=(1,), text="a"), 2, 0)


async def says_nothing(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
    return
    yield


@pytest.mark.parametrize(
    ("resume", "error"),
    [(None, UnsupportedError), (says_something_else, ProtocolError), (says_nothing, ProtocolError)],
)
async def test_a_server_that_promised_too_much_is_an_error(resume: Any, error: type[AsyncLMError]) -> None:
    async with playing(breaks_off, resume=resume) as port, AsyncLM(f"127.0.0.1:{port}") as llm:
        with pytest.raises(error):
            await llm.session("Hi").result()
