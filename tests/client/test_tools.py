"""Client-owned tools: they start on dispatch, say what they have, and stop when they are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from tests.client.scripts import EOS, TRAP, anonymous, call

from asynclm.client import AsyncLM, InterruptCommitted, InterruptRejected, Session, Status, TrapEntered
from asynclm.cml.toolspec import ToolSpec
from asynclm.session.state import CancelOutcome, Delivery, Result
from asynclm.tools import Partial, Progress, ToolError, tool
from asynclm.tools import Result as ToolResult


def add(a: int, b: int = 1) -> int:
    """Adds."""
    return a + b


async def committed(session: Session) -> list[tuple[str, Status, str]]:
    return [
        (e.report.source, e.report.status, e.report.payload)
        async for e in session
        if isinstance(e.report, InterruptCommitted)
    ]


async def test_a_function_is_a_tool(llm: AsyncLM) -> None:
    await llm.load_script("s", [*call("x", "add(a=1, b=2)"), *TRAP, "done", EOS])
    async with llm.session("Hi", model="script:s", tools=[add]) as session:
        assert [(t.name, t.client_owned) for t in session.started.tools] == [("add", True), ("double", False)]
        assert await committed(session) == [("x", Status.OK, "3")]
        result = await session.result()
    assert [(row.result, row.delivery) for row in result.calls] == [(Result.OK, Delivery.DELIVERED)]


async def test_client_and_server_tools_in_one_session_with_a_future(llm: AsyncLM) -> None:
    await llm.load_script("s", [*call("x", "double(n=5)"), *call("y", "add(a=x)"), *TRAP, *TRAP, EOS])
    async with llm.session("Hi", model="script:s", tools=[add]) as session:
        assert await committed(session) == [("x", Status.OK, "10"), ("y", Status.OK, "11")]


async def test_only_the_servers_tools_that_are_asked_for(llm: AsyncLM) -> None:
    await llm.load_script("s", ["a", EOS])
    async with llm.session("Hi", model="script:s", server_tools=[]) as session:
        assert session.started.tools == ()


async def test_partial_and_progress_go_before_the_result(llm: AsyncLM) -> None:
    go_on = asyncio.Event()

    async def count() -> AsyncIterator[Progress | Partial | ToolResult]:
        """Counts."""
        yield Progress("half", 0.5)
        yield Partial([1])
        await go_on.wait()
        yield ToolResult([1, 2])

    await llm.load_script("s", [*call("x", "count()"), *TRAP, EOS])
    async with llm.session("Hi", model="script:s", tools=[count]) as session:
        go_on.set()
        seen = await committed(session)
    assert [(source, status) for source, status, _ in seen] == [
        ("x", Status.PROGRESS),
        ("x", Status.PARTIAL),
        ("x", Status.OK),
    ]
    assert json.loads(seen[0][2]) == {"message": "half", "fraction": 0.5}
    assert [payload for *_, payload in seen[1:]] == ["[1]", "[1, 2]"]


async def test_an_error_of_a_tool_is_data(llm: AsyncLM) -> None:
    def refuse() -> None:
        """Refuses."""
        raise ToolError("not today", type="closed", retryable=True)

    def break_down() -> None:
        """Breaks."""
        raise ZeroDivisionError("oops")

    await llm.load_script("s", [*call("x", "refuse()"), *call("y", "break_down()"), *TRAP, *TRAP, EOS])
    async with llm.session("Hi", model="script:s", tools=[refuse, break_down]) as session:
        seen = {source: (status, json.loads(payload)) for source, status, payload in await committed(session)}
    assert seen["x"] == (Status.ERROR, {"type": "closed", "message": "not today", "retryable": True})
    assert seen["y"][0] is Status.ERROR
    assert seen["y"][1]["type"] == "exception"
    assert "oops" in seen["y"][1]["message"]


async def test_a_cancel_reaches_the_tool(llm: AsyncLM) -> None:
    running = asyncio.Event()
    stopped = asyncio.Event()

    async def hang() -> None:
        """Hangs."""
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    await llm.load_script("s", [*call("x", "hang()"), *TRAP, "x", EOS])
    async with llm.session("Hi", model="script:s", tools=[hang]) as session:
        await running.wait()
        assert (await session.cancel("x")).outcome is CancelOutcome.CANCELLED
        await stopped.wait()
        result = await session.result()
        rejected = [e async for e in session if isinstance(e.report, InterruptRejected)]
    assert [row.result for row in result.calls] == [Result.CANCELLED]
    assert rejected == []


async def test_a_time_out_of_the_server_stops_the_tool(llm: AsyncLM) -> None:
    stopped = asyncio.Event()

    @tool(timeout_ms=60_000)
    async def hang() -> None:
        """Hangs."""
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    await llm.load_script("s", [*call("x", "hang()"), *TRAP, "x", EOS])
    async with llm.session("Hi", model="script:s", tools=[hang]) as session:
        async for event in session:
            if isinstance(event.report, TrapEntered):
                break
        assert await llm.advance(session, 60_000) == 60_000
        await stopped.wait()
        result = await session.result()
    assert [row.result for row in result.calls] == [Result.TIMED_OUT]


async def test_closing_stops_the_tools(llm: AsyncLM) -> None:
    running = asyncio.Event()
    stopped = asyncio.Event()

    async def hang() -> None:
        """Hangs."""
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    await llm.load_script("s", [*call("x", "hang()"), *TRAP, EOS])
    async with llm.session("Hi", model="script:s", tools=[hang]):
        await running.wait()
    assert stopped.is_set()


async def test_what_an_anonymous_call_returns_is_not_sent(llm: AsyncLM) -> None:
    ran = asyncio.Event()

    async def note(text: str) -> str:
        """Notes."""
        ran.set()
        return text

    await llm.load_script("s", [*anonymous('note(text="a")'), "more", EOS])
    async with llm.session("Hi", model="script:s", tools=[note], credit=20) as session:
        await ran.wait()
        await session.grant(100)
        result = await session.result()
    assert [row.delivery for row in result.calls] == [Delivery.NOT_AWAITED]
    assert result.interrupts == ()


async def test_a_result_over_the_limit_becomes_an_error(llm: AsyncLM) -> None:
    def flood() -> str:
        """Floods."""
        return "x" * 5_000

    await llm.load_script("s", [*call("x", "flood()"), *TRAP, EOS])
    async with llm.session("Hi", model="script:s", tools=[flood], limits={"max_payload_bytes": 1_000}) as session:
        ((source, status, payload),) = await committed(session)
    assert (source, status) == ("x", Status.ERROR)
    assert json.loads(payload)["type"] == "payload"
    assert "5002 bytes; allowed are 1000" in payload


def test_a_function_without_types_is_refused_at_once() -> None:
    def bad(x) -> int:  # type: ignore[no-untyped-def]
        """Bad."""
        return int(x)

    with pytest.raises(TypeError, match="x"):
        AsyncLM("localhost:1").session("Hi", tools=[bad])


def test_two_tools_of_one_name_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="declared twice"):
        AsyncLM("localhost:1").session("Hi", tools=[add, add])
    with pytest.raises(ValueError, match="declared twice"):
        AsyncLM("localhost:1").session("Hi", tools=[add, ToolSpec(name="add")])
