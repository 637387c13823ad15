"""Clients that do not read until they are told to: what they then get is the same stream in fewer events."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from tests.server.harness import Harness, RawSession, Serve

from asynclm.cml.control import Control
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import SamplingParams
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptText
from asynclm.session.config import Limits
from asynclm.session.effects import Finished, Tokens
from asynclm.session.events import CreditGranted
from asynclm.wire.values import Started

CALL, END, TRAP = (ScriptControl(c) for c in (Control.CALL, Control.END, Control.TRAP))
F = ToolSpec(name="f", parameters={"type": "object"})
TEXT = "a word and another, " * 250
PARTS = 3


@pytest.fixture
async def h(serve: Serve) -> AsyncIterator[Harness]:
    """A server, and a channel that takes no more than it must before its messages are read."""
    served = await serve(session_limits=Limits(max_new_tokens=1 << 17, context_length=1 << 17))
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16_384)]
    channel = grpc.aio.insecure_channel(served.server.address, options=options)
    yield Harness(served.server, channel)
    await channel.close()


def tokens_of(session: RawSession) -> list[Tokens]:
    return [event.report for event in session.events if isinstance(event.report, Tokens)]


async def test_a_client_that_reads_late_gets_the_same_in_few_events(h: Harness) -> None:
    """[WIRE-055, WIRE-064, WIRE-065]: numbers, indexes and boundaries hold; log-probabilities stay beside their ids."""
    part = (ScriptText(TEXT), CALL, ScriptText("f()"), END)
    await h.load("long", *(part * PARTS), ScriptEnd())
    session = await h.session(model="script:long", tools=(F,), sampling=SamplingParams(logprobs=True))
    started = await session.until(Started)
    record = h.server.hub.registry.get(started.session_id)
    assert record is not None
    await record.done.wait()  # all of it is made, and most of it waits
    finished = await session.until(Finished)
    await session.all()
    assert not (broken := session.broken()), "\n".join(map(str, broken))
    sent = tokens_of(session)
    count = PARTS * (len(TEXT) + 5) + 1
    assert sum(len(t.ids) for t in sent) == sum(len(t.logprobs) for t in sent) == count
    assert finished.usage.sampled_tokens == count
    assert "".join(t.text for t in sent if t.in_block is None) == TEXT * PARTS
    assert len(sent) < count / 5
    assert record.stream.last_sequence == session.events[-1].sequence


async def test_a_client_that_keeps_up_gets_each_token_when_it_is_made(h: Harness) -> None:
    """[WIRE-059, WIRE-066]."""
    await h.load("s", ScriptText("abcdefgh"), ScriptEnd())
    session = await h.session(credit=0)
    await session.until(Started)
    for _ in range(8):
        await session.send(CreditGranted(tokens=1))
        assert len((await session.until(Tokens)).ids) == 1
    session.call.cancel()
