"""For how long the runner waits for what has to come, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from asynclm.v1 import session_pb2
from asynclm_conformance.faults import PlayError
from asynclm_conformance.play.log import WireLog
from asynclm_conformance.play.stream import MOST_PATIENCE, SessionStream

PATIENCE_S = 10.0

RunVirtual = Callable[[Coroutine[Any, Any, Any]], Any]


def stream() -> SessionStream:
    return SessionStream(None, WireLog(), "main", patience_s=PATIENCE_S, step=lambda: 0, answers={})  # type: ignore[arg-type]


async def drip(session: SessionStream, every_s: float, count: int) -> None:
    for number in range(1, count + 1):
        await asyncio.sleep(every_s)
        session._take(session_pb2.ServerEvent(sequence=number, tokens=session_pb2.Tokens(text="x")))


async def given_up(session: SessionStream, every_s: float, count: int) -> tuple[float, str]:
    """When the runner gives a target up that drips, and what it says."""
    dripping = asyncio.create_task(drip(session, every_s, count))
    try:
        with pytest.raises(PlayError) as failed:
            await session.wait(lambda: False, "the end")
    finally:
        dripping.cancel()
    assert failed.value.timed_out
    return asyncio.get_running_loop().time(), failed.value.message


@pytest.mark.parametrize(("every_s", "count"), [(9.0, 5), (1.0, 110), (0.5, 20)])
def test_what_comes_slowly_is_waited_for(every_s: float, count: int, run_virtual: RunVirtual) -> None:
    async def test() -> float:
        session = stream()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(drip(session, every_s, count))
            await session.wait(lambda: len(session.events) == count, "the last")
        return asyncio.get_running_loop().time()

    assert run_virtual(test()) == pytest.approx(every_s * count)


def test_silence_is_given_up(run_virtual: RunVirtual) -> None:
    assert run_virtual(given_up(stream(), 1.0, 0)) == (PATIENCE_S, "the end did not come within 10 s")


def test_silence_counts_from_the_last_event(run_virtual: RunVirtual) -> None:
    assert run_virtual(given_up(stream(), 9.0, 2)) == (18.0 + PATIENCE_S, "the end did not come within 10 s of tokens")


def test_a_target_that_goes_on_and_on_is_given_up(run_virtual: RunVirtual) -> None:
    given_up_s, _ = run_virtual(given_up(stream(), 1.0, 10**6))
    assert given_up_s == pytest.approx(MOST_PATIENCE * PATIENCE_S)
