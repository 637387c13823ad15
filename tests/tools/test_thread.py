"""An executor on its own thread: tools start at dispatch while decoding keeps the processors busy."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from asynclm.cml.control import Status
from asynclm.tools import Tool, ToolCall, ToolExecutor, ToolSet, ToolThread, ToolUpdate, tool

MAX_STEPS = 5_000
"""Decode steps after which a tool that has not answered was not started at dispatch."""


def call(index: int, function: str = "quick", **arguments: object) -> ToolCall:
    return ToolCall(session_id="s", index=index, function=function, arguments_json=json.dumps(arguments))


class Updates:
    """Updates as they come, and a way to wait for so many final ones."""

    def __init__(self) -> None:
        self.all: list[ToolUpdate] = []
        self._changed = threading.Condition()

    def __call__(self, update: ToolUpdate) -> None:
        with self._changed:
            self.all.append(update)
            self._changed.notify_all()

    def wait_final(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: sum(u.final for u in self.all) >= count, timeout=60)


def decode_step(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The load of a decode step: products that keep a core busy, without ever yielding to an event loop."""
    return np.tanh(a @ b)


@contextmanager
def saturated() -> Iterator[None]:
    """Every core busy with the same kind of work as decoding."""
    stop = threading.Event()

    def burn() -> None:
        a = np.eye(192)
        while not stop.is_set():
            decode_step(a, a)

    threads = [threading.Thread(target=burn) for _ in range(os.cpu_count() or 1)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def logging_tools(log: list[str]) -> list[Tool]:
    @tool
    async def coroutine() -> None:
        log.append("coroutine")
        await asyncio.sleep(0)

    @tool
    def sync() -> None:
        log.append("sync")

    return [coroutine, sync]


def decode(log: list[str], dispatch: Callable[[], None], answered: Callable[[], bool]) -> None:
    """A decode loop that dispatches at its second step, and stops when the tools have answered."""
    a = np.eye(192)
    for step in range(MAX_STEPS):
        decode_step(a, a)
        if step == 1:
            log.append("dispatch")
            dispatch()
        if answered():
            break
    log.append("decoding ends")


def test_tools_start_at_dispatch_while_decoding_saturates_the_processors() -> None:
    log: list[str] = []
    answers: list[ToolUpdate] = []
    with saturated(), ToolThread(lambda: ToolExecutor(logging_tools(log), on_update=answers.append)) as tools:

        def dispatch() -> None:
            tools.submit(call(0, "coroutine"))
            tools.submit(call(1, "sync"))

        decoding = threading.Thread(target=decode, args=(log, dispatch, lambda: len(answers) == 2))
        decoding.start()
        decoding.join()
    assert sorted(log[1:3]) == ["coroutine", "sync"]
    assert (log[0], log[3]) == ("dispatch", "decoding ends")
    assert [update.status for update in answers] == [Status.OK, Status.OK]


async def test_that_check_catches_an_executor_on_the_loop_that_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    answers: list[ToolUpdate] = []
    monkeypatch.setitem(globals(), "MAX_STEPS", 5)
    executor = ToolExecutor(logging_tools(log), on_update=answers.append)
    decode(log, lambda: executor.submit(call(0, "coroutine")), lambda: bool(answers))
    assert log == ["dispatch", "decoding ends"]
    await executor.aclose()


def test_updates_come_on_the_tools_thread() -> None:
    names: list[str] = []
    done = threading.Event()

    def listen(update: ToolUpdate) -> None:
        names.append(threading.current_thread().name)
        done.set()

    @tool
    def quick() -> None: ...

    with ToolThread(lambda: ToolExecutor([quick], on_update=listen)) as tools:
        tools.submit(call(0))
        assert done.wait(60)
    assert names == ["asynclm-tools"]


def test_cancel_and_close_from_outside() -> None:
    inside = threading.Semaphore(0)

    @tool
    async def hold(session: str) -> None:
        inside.release()
        await asyncio.Event().wait()

    updates = Updates()
    tools = ToolThread(lambda: ToolExecutor(ToolSet([hold]), on_update=updates))
    for index, session in enumerate("abbc"):
        tools.submit(
            ToolCall(session_id=session, index=index, function="hold", arguments_json=json.dumps({"session": session}))
        )
    for _ in range(4):
        assert inside.acquire(timeout=60)
    tools.cancel("a", 0)
    tools.cancel_session("b")
    updates.wait_final(3)
    assert [(u.session_id, u.status) for u in updates.all] == [
        ("a", Status.CANCELLED),
        ("b", Status.CANCELLED),
        ("b", Status.CANCELLED),
    ]
    tools.close()
    tools.close()
    assert [u.session_id for u in updates.all] == ["a", "b", "b", "c"]
    for use in (lambda: tools.submit(call(9)), lambda: tools.cancel("a", 0), lambda: tools.cancel_session("a")):
        with pytest.raises(RuntimeError, match="the tools thread is closed"):
            use()


def test_an_executor_that_cannot_be_made_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="max_concurrency is 0"):
        ToolThread(lambda: ToolExecutor([], on_update=lambda update: None, max_concurrency=0))
    assert threading.active_count() == before


def test_threads_are_reused() -> None:
    names = set()

    @tool
    def quick() -> None:
        names.add(threading.get_ident())

    updates = Updates()
    with ToolThread(lambda: ToolExecutor([quick], on_update=updates, max_concurrency=1)) as tools:
        for index in range(20):
            tools.submit(call(index))
        updates.wait_final(20)
    assert len(names) == 1
