"""The executor, by order of events."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynclm.cml.control import Status
from asynclm.tools import (
    Partial,
    Progress,
    Result,
    ResultCache,
    ToolCall,
    ToolContext,
    ToolError,
    ToolExecutor,
    ToolUpdate,
    tool,
)


class Listener:
    """Keeps updates, and lets a test wait for the final one of a call."""

    def __init__(self) -> None:
        self.updates: list[ToolUpdate] = []
        self._changed = asyncio.Event()

    def __call__(self, update: ToolUpdate) -> None:
        self.updates.append(update)
        self._changed.set()

    def of(self, index: int) -> list[ToolUpdate]:
        return [update for update in self.updates if update.index == index]

    async def final(self, index: int) -> ToolUpdate:
        while True:
            for update in self.of(index):
                if update.final:
                    return update
            self._changed.clear()
            await self._changed.wait()


def call(function: str, index: int = 0, timeout_ms: int | None = None, **arguments: Any) -> ToolCall:
    return ToolCall(
        session_id="s",
        index=index,
        id=f"c{index}",
        function=function,
        arguments_json=json.dumps(arguments),
        timeout_ms=timeout_ms,
    )


async def run_one(function: Callable[..., Any], **arguments: Any) -> list[ToolUpdate]:
    made = function if hasattr(function, "spec") else tool(function)
    listener = Listener()
    executor = ToolExecutor([made], on_update=listener)
    executor.submit(call(made.name, **arguments))
    await listener.final(0)
    await executor.aclose()
    assert [update.final for update in listener.updates].count(True) == 1
    return listener.updates


async def failure(function: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    updates = await run_one(function, **arguments)
    assert updates[-1].status is Status.ERROR
    payload = json.loads(updates[-1].payload)
    assert set(payload) == {"type", "message", "retryable"}
    return dict(payload)


async def test_a_sync_tool_runs_in_another_thread() -> None:
    def where(x: int) -> list[Any]:
        return [x, threading.current_thread() is threading.main_thread()]

    [update] = await run_one(where, x=3)
    assert (update.status, update.payload) == (Status.OK, "[3, false]")


async def test_an_async_tool_runs_on_the_loop() -> None:
    async def where(x: int) -> list[Any]:
        return [x, threading.current_thread() is threading.main_thread()]

    [update] = await run_one(where, x=3)
    assert (update.status, update.payload) == (Status.OK, "[3, true]")


async def test_an_async_generator_gives_updates_then_its_result() -> None:
    async def search(words: list[str]) -> AsyncIterator[Partial | Progress | Result]:
        for i, word in enumerate(words):
            yield Partial({"found": word})
            yield Progress(word, (i + 1) / len(words))
        yield Result(len(words))
        raise AssertionError("nothing runs after the result")

    updates = await run_one(search, words=["a", "b"])
    assert [(u.status, json.loads(u.payload)) for u in updates] == [
        (Status.PARTIAL, {"found": "a"}),
        (Status.PROGRESS, {"message": "a", "fraction": 0.5}),
        (Status.PARTIAL, {"found": "b"}),
        (Status.PROGRESS, {"message": "b", "fraction": 1.0}),
        (Status.OK, 2),
    ]


async def test_a_sync_generator_gives_updates_in_order_and_null_without_a_result() -> None:
    def count(n: int) -> Iterator[Partial]:
        for i in range(n):
            yield Partial(i)

    updates = await run_one(count, n=3)
    assert [(u.status, u.payload) for u in updates] == [
        (Status.PARTIAL, "0"),
        (Status.PARTIAL, "1"),
        (Status.PARTIAL, "2"),
        (Status.OK, "null"),
    ]


async def test_a_generator_that_yields_a_plain_value_is_told_so() -> None:
    async def wrong() -> AsyncIterator[int]:
        yield 1

    assert await failure(wrong) == {
        "type": "invalid_result",
        "message": "the tool yielded a int; it may yield Partial, Progress and Result",
        "retryable": False,
    }


async def test_updates_from_a_thread_come_before_its_result() -> None:
    def work(context: ToolContext) -> str:
        for i in range(50):
            context.progress(f"step {i}", i / 50)
        return f"{context.session_id} {context.index} {context.call_id} {context.function}"

    updates = await run_one(work)
    assert [json.loads(u.payload)["message"] for u in updates[:-1]] == [f"step {i}" for i in range(50)]
    assert updates[-1].payload == '"s 0 c0 work"'


@pytest.mark.parametrize(
    ("error", "type", "retryable", "fragment"),
    [
        (ToolError("no such city", type="not_found"), "not_found", False, "no such city"),
        (ToolError("busy", retryable=True), "tool_error", True, "busy"),
        (ValueError("bad"), "exception", False, "ValueError: bad"),
        (ConnectionResetError("peer"), "exception", True, "ConnectionResetError: peer"),
        (SystemExit(3), "exception", False, "SystemExit"),
        (KeyboardInterrupt(), "exception", False, "KeyboardInterrupt"),
        (StopIteration(7), "exception", False, "StopIteration"),
        (asyncio.CancelledError(), "exception", True, "cancelled from within"),
        (ValueError("x" * 5000), "exception", False, "xxx"),
        (ValueError("\ud800"), "exception", False, "\ufffd"),
    ],
)
@pytest.mark.parametrize("threaded", [True, False])
async def test_whatever_a_tool_raises_becomes_data(
    error: BaseException, type: str, retryable: bool, fragment: str, threaded: bool
) -> None:
    def sync_tool() -> None:
        raise error

    async def async_tool() -> None:
        raise error

    payload = await failure(sync_tool if threaded else async_tool)
    assert (payload["type"], payload["retryable"]) == (type, retryable)
    assert fragment in payload["message"]
    assert len(payload["message"]) <= 1000


async def test_a_result_that_json_cannot_hold_becomes_an_error() -> None:
    async def nan() -> dict[str, Any]:
        return {"rates": [1.0, float("nan")]}

    payload = await failure(nan)
    assert payload["type"] == "invalid_result"
    assert payload["message"].startswith("result.rates[1]: nan is not a JSON number")


@pytest.mark.parametrize(
    "arguments", ["{}", "[]", "not json", '{"x": "seven"}', '{"x": 1, "y": 2}', '{"x": "\\ud800"}']
)
async def test_arguments_that_do_not_fit_are_data_and_run_nothing(arguments: str) -> None:
    ran = []

    @tool
    def takes(x: int) -> None:
        ran.append(x)

    listener = Listener()
    executor = ToolExecutor([takes], on_update=listener)
    executor.submit(ToolCall(session_id="s", index=0, function="takes", arguments_json=arguments))
    update = await listener.final(0)
    assert json.loads(update.payload)["type"] == "invalid_arguments"
    assert ran == []
    await executor.aclose()


async def test_an_unknown_function_is_data_and_names_those_there_are() -> None:
    listener = Listener()

    @tool
    def known() -> None: ...

    executor = ToolExecutor([known], on_update=listener)
    executor.submit(call("unknown"))
    payload = json.loads((await listener.final(0)).payload)
    assert payload["type"] == "unknown_function"
    assert "'unknown'" in payload["message"]
    assert "known" in payload["message"]


async def test_a_call_submitted_twice_is_refused() -> None:
    gate = asyncio.Event()

    @tool
    async def wait() -> None:
        await gate.wait()

    executor = ToolExecutor([wait], on_update=Listener())
    executor.submit(call("wait"))
    with pytest.raises(ValueError, match="call 0 of session 's' was submitted before"):
        executor.submit(call("wait"))
    await executor.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(call("wait", 1))


@given(st.lists(st.one_of(st.none(), st.integers(1, 5)), min_size=1, max_size=12), st.integers(1, 3))
@settings(max_examples=50)
def test_waiting_calls_start_longest_first_and_equal_ones_in_order(durations: list[int | None], limit: int) -> None:
    started: list[int] = []
    most = 0

    async def main() -> None:
        gate = asyncio.Semaphore(0)
        nonlocal most

        async def body(i: int) -> None:
            nonlocal most
            started.append(i)
            most = max(most, executor.running)
            await gate.acquire()

        tools = [tool(name=f"t{d}", expected_duration_ms=d)(body) for d in set(durations)]
        listener = Listener()
        executor = ToolExecutor(tools, on_update=listener, max_concurrency=limit)
        for index, duration in enumerate(durations):
            executor.submit(call(f"t{duration}", index, i=index))
        for _ in durations:
            gate.release()
        for index in range(len(durations)):
            await listener.final(index)
        assert executor.running == executor.waiting == 0
        await executor.aclose()

    asyncio.run(main())
    assert started == sorted(range(len(durations)), key=lambda i: (-(durations[i] or 0), i))
    assert most <= limit


async def test_no_more_run_at_once_than_allowed_and_a_free_place_is_taken_at_once() -> None:
    gates = [asyncio.Event() for _ in range(3)]
    started: list[int] = []
    begun = asyncio.Condition()

    @tool
    async def hold(i: int) -> int:
        async with begun:
            started.append(i)
            begun.notify_all()
        await gates[i].wait()
        return i

    listener = Listener()
    executor = ToolExecutor([hold], on_update=listener, max_concurrency=2)
    for i in range(3):
        executor.submit(call("hold", i, i=i))
    async with begun:
        await begun.wait_for(lambda: len(started) == 2)
    assert (started, executor.waiting) == ([0, 1], 1)
    gates[1].set()
    async with begun:
        await begun.wait_for(lambda: len(started) == 3)
    assert [u.index for u in listener.updates] == [1]
    await executor.aclose()


async def test_a_cancel_reaches_the_coroutine_and_is_answered_once() -> None:
    inside, cleaned = asyncio.Event(), asyncio.Event()

    @tool
    async def long(context: ToolContext) -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            assert context.cancelled
            cleaned.set()

    listener = Listener()
    executor = ToolExecutor([long], on_update=listener)
    executor.submit(call("long"))
    await inside.wait()
    assert executor.cancel("s", 0)
    assert not executor.cancel("s", 0)
    await cleaned.wait()
    [update] = listener.updates
    assert (update.status, json.loads(update.payload)["message"]) == (Status.CANCELLED, "cancelled while it ran")
    await executor.aclose()


async def test_a_cancel_of_a_waiting_call_keeps_it_from_starting() -> None:
    gate, started = asyncio.Event(), []

    @tool
    async def hold(i: int) -> None:
        started.append(i)
        await gate.wait()

    listener = Listener()
    executor = ToolExecutor([hold], on_update=listener, max_concurrency=1)
    for i in range(3):
        executor.submit(call("hold", i, i=i))
    executor.cancel("s", 1)
    gate.set()
    await listener.final(2)
    assert started == [0, 2]
    assert json.loads(listener.of(1)[0].payload)["message"] == "cancelled before it started"
    await executor.aclose()


async def test_a_cancel_sets_the_flag_that_a_thread_reads() -> None:
    inside = asyncio.Event()
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[bool] = loop.create_future()

    @tool
    def long(context: ToolContext) -> None:
        loop.call_soon_threadsafe(inside.set)
        told = context.wait_cancelled(60)
        loop.call_soon_threadsafe(ended.set_result, told)

    executor = ToolExecutor([long], on_update=Listener())
    executor.submit(call("long"))
    await inside.wait()
    executor.cancel("s", 0)
    assert executor.abandoned == 1
    assert await ended
    await executor.aclose()


async def test_cancel_session_leaves_other_sessions_alone() -> None:
    gate = asyncio.Event()

    @tool
    async def hold() -> None:
        await gate.wait()

    listener = Listener()
    executor = ToolExecutor([hold], on_update=listener)
    for session in ("a", "a", "b"):
        index = len(listener.updates) + executor.waiting
        executor.submit(ToolCall(session_id=session, index=index, function="hold"))
    assert executor.cancel_session("a") == 2
    gate.set()
    assert (await listener.final(2)).status is Status.OK
    await executor.aclose()


async def test_updates_after_the_answer_are_dropped() -> None:
    leaked: list[ToolContext] = []

    @tool
    async def leak(context: ToolContext) -> None:
        leaked.append(context)

    listener = Listener()
    executor = ToolExecutor([leak], on_update=listener)
    executor.submit(call("leak"))
    await listener.final(0)
    leaked[0].progress("too late")
    assert len(listener.updates) == 1
    await executor.aclose()


def test_a_tool_that_hangs_times_out_and_gives_its_place_back(run_virtual: Any) -> None:
    release = threading.Event()

    @tool(timeout_ms=500)
    def hang_in_thread() -> None:
        release.wait()

    @tool(idempotent=True)
    async def hang() -> None:
        await asyncio.Event().wait()

    @tool
    async def quick(context: ToolContext) -> float | None:
        return context.remaining_ms

    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = Listener()
        executor = ToolExecutor([hang_in_thread, hang, quick], on_update=listener, max_concurrency=1)
        executor.submit(call("hang_in_thread", 0))
        assert (await listener.final(0)).status is Status.TIMEOUT
        assert loop.time() == 0.5
        executor.submit(call("hang", 1, timeout_ms=250))
        update = await listener.final(1)
        assert loop.time() == 0.75
        assert json.loads(update.payload) == {
            "type": "timeout",
            "message": "no result within 250 ms",
            "retryable": True,
        }
        executor.submit(call("quick", 2, timeout_ms=1000))
        assert (await listener.final(2)).payload == "1000.0"
        assert executor.abandoned == 1
        await executor.aclose()
        release.set()

    run_virtual(main())


def test_a_call_may_time_out_before_it_starts(run_virtual: Any) -> None:
    started = []

    @tool
    async def hold(i: int) -> None:
        started.append(i)
        await asyncio.sleep(10)

    async def main() -> None:
        listener = Listener()
        executor = ToolExecutor([hold], on_update=listener, max_concurrency=1)
        executor.submit(call("hold", 0, i=0))
        executor.submit(call("hold", 1, timeout_ms=100, i=1))
        assert (await listener.final(1)).status is Status.TIMEOUT
        assert (await listener.final(0)).status is Status.OK
        await executor.aclose()

    run_virtual(main())
    assert started == [0]


def test_hung_tools_are_bounded(run_virtual: Any) -> None:
    release = threading.Event()

    @tool
    def hang() -> None:
        release.wait()

    async def main() -> None:
        listener = Listener()
        executor = ToolExecutor([hang], on_update=listener, max_abandoned=2)
        for i in range(3):
            executor.submit(call("hang", i, timeout_ms=10))
            await listener.final(i)
        assert json.loads(listener.of(2)[0].payload)["type"] == "limit"
        release.set()
        while executor.abandoned:  # noqa: ASYNC110  (virtual time: this yields to the threads)
            await asyncio.sleep(0.01)
        executor.submit(call("hang", 3))
        assert (await listener.final(3)).status is Status.OK
        await executor.aclose()

    run_virtual(main())


async def test_equal_calls_of_a_cacheable_tool_run_once() -> None:
    gate, ran = asyncio.Event(), []

    @tool(cacheable=True)
    async def look_up(key: str, unit: str = "C") -> str:
        ran.append(key)
        await gate.wait()
        return key.upper()

    listener = Listener()
    executor = ToolExecutor([look_up], on_update=listener)
    executor.submit(ToolCall(session_id="s", index=0, function="look_up", arguments_json='{"key":"a","unit":"C"}'))
    executor.submit(ToolCall(session_id="t", index=1, function="look_up", arguments_json='{ "unit":"C", "key":"a"}'))
    executor.submit(call("look_up", 2, key="b"))
    executor.cancel("s", 0)
    gate.set()
    assert (await listener.final(1)).payload == '"A"'
    await listener.final(2)
    executor.submit(call("look_up", 3, key="a", unit="C"))
    kept = await listener.final(3)
    assert (kept.payload, kept.cached) == ('"A"', True)
    assert ran == ["a", "b"]
    await executor.aclose()


async def test_failures_are_not_kept_and_other_tools_are_not_cached() -> None:
    ran = []

    @tool(cacheable=True)
    async def fails() -> None:
        ran.append("fails")
        raise ToolError("no")

    @tool
    async def plain() -> None:
        ran.append("plain")

    listener = Listener()
    executor = ToolExecutor([fails, plain], on_update=listener)
    for i, name in enumerate(["fails", "fails", "plain", "plain"]):
        executor.submit(call(name, i))
        await listener.final(i)
    assert ran == ["fails", "fails", "plain", "plain"]
    await executor.aclose()


def test_a_shared_run_ends_with_its_last_caller(run_virtual: Any) -> None:
    deadlines: list[float | None] = []
    stopped = []

    @tool(cacheable=True)
    async def slow(context: ToolContext) -> None:
        try:
            await asyncio.sleep(0.15)
            deadlines.append(context.deadline)
            await asyncio.sleep(10)
        finally:
            stopped.append(asyncio.get_running_loop().time())

    async def main() -> None:
        listener = Listener()
        executor = ToolExecutor([slow], on_update=listener, cache=ResultCache())
        executor.submit(call("slow", 0, timeout_ms=100))
        executor.submit(call("slow", 1, timeout_ms=200))
        await listener.final(0)
        assert not stopped
        await listener.final(1)
        await executor.aclose()

    run_virtual(main())
    assert deadlines == [pytest.approx(0.2)]
    assert stopped == [pytest.approx(0.2)]


async def test_a_listener_that_fails_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []
    both = asyncio.Event()

    def listen(update: ToolUpdate) -> None:
        seen.append(update.index)
        if len(seen) == 2:
            both.set()
        raise RuntimeError("listener")

    @tool
    async def quick() -> None: ...

    executor = ToolExecutor([quick], on_update=listen)
    executor.submit(call("quick", 0))
    executor.submit(call("quick", 1))
    await both.wait()
    assert "on_update failed" in caplog.text
    await executor.aclose()


async def test_closing_answers_every_call() -> None:
    @tool
    async def hold() -> None:
        await asyncio.Event().wait()

    listener = Listener()
    executor = ToolExecutor([hold], on_update=listener, max_concurrency=1)
    for i in range(3):
        executor.submit(call("hold", i))
    await asyncio.sleep(0)
    await executor.aclose()
    assert [(u.index, u.status) for u in listener.updates] == [(i, Status.CANCELLED) for i in range(3)]
    assert executor.abandoned == 0


@pytest.mark.parametrize("name", ["max_concurrency", "max_abandoned"])
def test_limits_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        ToolExecutor([], on_update=lambda update: None, **{name: 0})


async def test_a_coroutine_that_ignores_its_cancel_is_left_behind_until_it_ends() -> None:
    inside, gate, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @tool
    async def stubborn() -> str:
        inside.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await gate.wait()
        over.set()
        return "too late"

    listener = Listener()
    executor = ToolExecutor([stubborn], on_update=listener, max_concurrency=1)
    executor.submit(call("stubborn"))
    await inside.wait()
    executor.cancel("s", 0)
    assert (executor.abandoned, executor.running) == (1, 0)
    gate.set()
    await over.wait()
    await executor.aclose()
    assert (executor.abandoned, [u.status for u in listener.updates]) == (0, [Status.CANCELLED])


async def test_a_cancelled_generator_in_a_thread_ends_at_its_next_update() -> None:
    inside = asyncio.Event()
    loop = asyncio.get_running_loop()
    closed: asyncio.Future[None] = loop.create_future()
    go_on = threading.Event()

    @tool
    def count() -> Iterator[Partial]:
        try:
            yield Partial(0)
            loop.call_soon_threadsafe(inside.set)
            go_on.wait()
            while True:
                yield Partial(1)
        finally:
            loop.call_soon_threadsafe(closed.set_result, None)

    listener = Listener()
    executor = ToolExecutor([count], on_update=listener)
    executor.submit(call("count"))
    await inside.wait()
    executor.cancel("s", 0)
    go_on.set()
    await closed
    assert [u.status for u in listener.updates] == [Status.PARTIAL, Status.CANCELLED]
    await executor.aclose()


async def test_a_context_outside_an_executor_is_harmless() -> None:
    context = ToolContext()
    context.partial({1})
    context.progress("half", 0.5)
    context.raise_if_cancelled()
    assert (context.cancelled, context.remaining_ms, context.wait_cancelled(0)) == (False, None, False)
    with pytest.raises(ValueError, match=r"progress.fraction is 1\.5; allowed: 0 to 1"):
        context.progress("too far", 1.5)
    context.set_cancelled()
    with pytest.raises(ToolError, match="cancelled"):
        context.raise_if_cancelled()


async def test_an_exception_that_cannot_be_printed_is_named() -> None:
    class Broken(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise ValueError("no")

    async def fails() -> None:
        raise Broken

    assert (await failure(fails))["message"] == "Broken"


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("submit"), st.sampled_from(["hold", "shared", "fails", "unknown"])),
            st.tuples(st.just("cancel"), st.integers(0, 12)),
            st.tuples(st.just("release"), st.integers(0, 12)),
            st.tuples(st.just("turn"), st.integers(1, 3)),
        ),
        max_size=25,
    ),
    st.integers(1, 3),
)
@settings(max_examples=50)
def test_every_call_is_answered_once_whatever_happens(operations: list[tuple[str, Any]], limit: int) -> None:
    gates: dict[int, asyncio.Event] = {}
    inside: set[int] = set()

    async def hold(i: int, context: ToolContext) -> int:
        inside.add(i)
        try:
            context.partial(i)
            await gates[i].wait()
            return i
        finally:
            inside.discard(i)

    async def fails() -> None:
        raise ToolError("no")

    async def main() -> None:
        listener = Listener()
        tools = [tool(name="hold")(hold), tool(name="shared", cacheable=True)(hold), tool(fails)]
        executor = ToolExecutor(tools, on_update=listener, max_concurrency=limit)
        submitted: list[str] = []
        for operation, argument in operations:
            if operation == "submit":
                index = len(submitted)
                submitted.append(argument)
                gates[index] = asyncio.Event()
                gates.setdefault(-1, asyncio.Event())
                arguments = {"hold": {"i": index}, "shared": {"i": -1}}.get(argument, {})
                executor.submit(call(argument, index, **arguments))
            elif operation == "cancel":
                answered = any(u.final for u in listener.of(argument))
                assert executor.cancel("s", argument) == (argument < len(submitted) and not answered)
            elif operation == "release":
                gates.get(argument, asyncio.Event()).set()
            else:
                for _ in range(argument):
                    await asyncio.sleep(0)
                assert len(inside) <= limit
                assert executor.running <= limit
        await executor.aclose()
        for index in range(len(submitted)):
            updates = listener.of(index)
            assert [u.final for u in updates] == [False] * (len(updates) - 1) + [True]
            assert all(u.status is Status.PARTIAL for u in updates[:-1])
        assert (executor.running, executor.waiting, executor.abandoned, inside) == (0, 0, 0, set())

    asyncio.run(main())
