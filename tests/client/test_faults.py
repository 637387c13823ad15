"""Servers that break the protocol or go away: the client says so, hangs nowhere and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from tests.client.player import Part, playing, started

from asynclm.client import (
    AsyncLM,
    AsyncLMError,
    CallDispatched,
    Finished,
    FinishReason,
    InvalidRequestError,
    ProtocolError,
    SessionClosedError,
    Tokens,
    UnavailableError,
    Usage,
)
from asynclm.session.events import CreditGranted, FinishRequested, InterruptReceived
from asynclm.v1 import session_pb2
from asynclm.wire import UnknownEvent, client_event_from_pb, to_server_event

USAGE = Usage(prompt_tokens=1, cached_tokens=0, sampled_tokens=0, injected_tokens=0)
FINISHED = Finished(token_index=0, reason=FinishReason.STOP, message="", usage=USAGE, calls=(), interrupts=())


async def session_with(part: Part, **options: Any) -> tuple[list[Any], BaseException | None]:
    """What the client sees of a part, and how it ends."""
    reports: list[Any] = []
    async with playing(part) as port, AsyncLM(f"127.0.0.1:{port}") as llm:
        try:
            async for event in llm.session("Hi", **options):
                reports.append(event.report)
        except AsyncLMError as error:
            return reports, error
    return reports, None


async def test_a_stream_that_ends_before_its_first_event() -> None:
    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        return
        yield

    _, error = await session_with(part)
    assert isinstance(error, ProtocolError)
    assert "before its first event" in str(error)


async def test_a_stream_that_ends_before_finished() -> None:
    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield started()
        yield to_server_event(Tokens(token_index=0, ids=(1,), text="a"), 2, 0)

    reports, error = await session_with(part)
    assert isinstance(reports[-1], Tokens)
    assert isinstance(error, ProtocolError)


async def test_a_first_event_that_is_not_started() -> None:
    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield to_server_event(Tokens(token_index=0, ids=(1,), text="a"), 2, 0)

    _, error = await session_with(part)
    assert isinstance(error, ProtocolError)
    assert "Started is required" in str(error)


async def test_an_unreadable_event_is_a_protocol_error() -> None:
    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield started()
        yield session_pb2.ServerEvent(sequence=2, notice=session_pb2.Notice(message="no code"))

    _, error = await session_with(part)
    assert isinstance(error, ProtocolError)
    assert "NOTICE_CODE" in str(error)


async def test_an_event_of_a_later_revision_is_passed_on_and_does_no_harm() -> None:
    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield started()
        yield session_pb2.ServerEvent(sequence=2)
        yield to_server_event(FINISHED, 3, 0)

    reports, error = await session_with(part)
    assert error is None
    assert reports[1:] == [UnknownEvent(), FINISHED]


async def test_a_server_that_dies_wakes_everybody() -> None:
    sent = asyncio.Event()

    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield started()
        async for pb in events:
            if pb.HasField("probe"):
                break
        sent.set()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

    async with playing(part) as port, AsyncLM(f"127.0.0.1:{port}") as llm, llm.session("Hi") as session:
        waiting = [asyncio.create_task(c) for c in (session.probe(), session.result(), session.cancel("a"))]
        await sent.wait()
        for task in waiting:
            with pytest.raises(UnavailableError, match="going away"):
                await task
        with pytest.raises(UnavailableError):
            await session.grant(5)
        with pytest.raises(UnavailableError):
            async for _ in session:
                pass


async def test_a_session_that_finishes_wakes_who_waits_for_an_answer() -> None:
    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield started()
        async for pb in events:
            if pb.HasField("cancel_call"):
                break
        yield to_server_event(FINISHED, 2, 0)

    async with playing(part) as port, AsyncLM(f"127.0.0.1:{port}") as llm, llm.session("Hi") as session:
        with pytest.raises(SessionClosedError, match="finished"):
            await session.cancel("a")


async def test_client_events_are_numbered_from_one_in_the_order_they_were_sent() -> None:
    seen: list[tuple[int, Any]] = []

    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield started()
        async for pb in events:
            seen.append((pb.client_seq, client_event_from_pb(pb)))
            if pb.HasField("finish"):
                break
        yield to_server_event(FINISHED, 2, 0)

    async with playing(part) as port, AsyncLM(f"127.0.0.1:{port}") as llm, llm.session("Hi") as session:
        await asyncio.gather(*(session.grant(n) for n in range(1, 20)))
        await session.finish(cancel_pending=False)
        await session.result()
    assert [number for number, _ in seen] == list(range(1, 22))
    assert [event for _, event in seen[1:-1]] == [CreditGranted(tokens=n) for n in range(1, 20)]
    assert seen[-1][1] == FinishRequested(cancel_pending=False)


async def test_a_call_dispatched_twice_is_a_protocol_error() -> None:
    dispatched = CallDispatched(
        token_index=0, index=0, id="a", function="hang", arguments="{}", client_owned=True, timeout_ms=1000
    )

    async def hang() -> None:
        """Hangs."""
        await asyncio.Event().wait()

    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield started()
        yield to_server_event(dispatched, 2, 0)
        yield to_server_event(dispatched, 3, 0)
        async for _ in events:
            pass

    _, error = await session_with(part, tools=[hang])
    assert isinstance(error, ProtocolError)
    assert "submitted before" in str(error)


async def test_tools_answer_by_call_index() -> None:
    answers: list[Any] = []

    def one() -> int:
        """One."""
        return 1

    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield started()
        yield to_server_event(
            CallDispatched(
                token_index=0, index=3, id="a", function="one", arguments="{}", client_owned=True, timeout_ms=1000
            ),
            2,
            0,
        )
        async for pb in events:
            if pb.HasField("interrupt"):
                answers.append(client_event_from_pb(pb))
                break
        yield to_server_event(FINISHED, 3, 0)

    _, error = await session_with(part, tools=[one])
    assert error is None
    (answer,) = answers
    assert isinstance(answer, InterruptReceived)
    assert (answer.call_index, answer.payload) == (3, "1")


async def test_closing_does_not_wait_for_a_server_that_does_not_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asynclm.client.session.CLOSE_SECONDS", 0.01)
    gone = asyncio.Event()

    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield started()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()

    async with playing(part) as port, AsyncLM(f"127.0.0.1:{port}") as llm:
        async with llm.session("Hi") as session:
            assert session.session_id == "s-1"
        await gone.wait()
        with pytest.raises(SessionClosedError):
            await session.result()


async def test_detaching_drops_the_stream_without_a_word() -> None:
    seen: list[str] = []
    heard, gone = asyncio.Event(), asyncio.Event()

    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield started()
        try:
            async for pb in events:
                seen.append(pb.WhichOneof("event"))
                heard.set()
        finally:
            gone.set()

    async with playing(part) as port, AsyncLM(f"127.0.0.1:{port}") as llm:
        session = llm.session("Hi", on_disconnect="detach")
        await session.open()
        await heard.wait()
        await session.detach()
        await gone.wait()
    assert seen == ["start"]


async def test_the_servers_reason_survives_a_race_with_what_the_client_writes() -> None:
    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield started()
        async for pb in events:
            if pb.HasField("grant"):
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "credit is unlimited")

    async with playing(part) as port, AsyncLM(f"127.0.0.1:{port}") as llm:
        for _ in range(20):
            async with llm.session("Hi") as session:
                ends = await asyncio.gather(*(session.grant(1) for _ in range(20)), return_exceptions=True)
                with pytest.raises(InvalidRequestError, match="credit is unlimited"):
                    await session.result()
            assert {type(end) for end in ends} <= {type(None), InvalidRequestError}


async def test_a_caller_that_is_cancelled_leaves_the_stream_whole() -> None:
    seen: list[int] = []

    async def part(events: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        yield started()
        async for pb in events:
            seen.append(pb.client_seq)
            if pb.HasField("finish"):
                yield to_server_event(FINISHED, 2, 0)
                return

    async with playing(part) as port, AsyncLM(f"127.0.0.1:{port}") as llm, llm.session("Hi") as session:
        asking = asyncio.create_task(session.interrupt("x" * 1_000_000))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await session.finish()
        assert (await session.result()).finished == FINISHED
    assert seen in ([1, 2, 3], [1, 2])


def test_a_session_that_is_not_open_says_so() -> None:
    session = AsyncLM("localhost:1").session("Hi")
    with pytest.raises(RuntimeError, match="not open yet"):
        _ = session.session_id
