"""Sessions over a real socket, on scripts."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.server.harness import Serve

from asynclm.cml.control import Control
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import SamplingParams
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptText
from asynclm.session.config import ExecutionMode, OnEnd
from asynclm.session.effects import (
    CallDispatched,
    CallSettled,
    Finished,
    InterruptAccepted,
    InterruptCommitted,
    Probed,
    Tokens,
    TrapEntered,
)
from asynclm.session.events import (
    CreditGranted,
    FinishRequested,
    InterruptReceived,
    PauseChanged,
    ProbeRequested,
)
from asynclm.session.state import Delivery, FinishReason, Result, State
from asynclm.v1 import control_pb2
from asynclm.wire.values import OnDisconnect, Started

CALL, HEAD, END, TRAP = (ScriptControl(c) for c in (Control.CALL, Control.HEAD, Control.END, Control.TRAP))
SUM = ToolSpec(
    name="add",
    parameters={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    parameter_order=("a",),
)


def add(a: int) -> int:
    """Adds one."""
    return a + 1


async def test_a_server_owned_call_interrupts_running_text(serve: Serve) -> None:
    h = await serve([add])
    counts = await h.load("s", CALL, ScriptText("x"), HEAD, ScriptText("add(a=1)"), END, TRAP, END, ScriptEnd())
    assert counts == [1, 1, 1, 8, 1, 1, 1, 1]
    s = await h.session()
    reports = await s.all()
    committed = next(r for r in reports if isinstance(r, InterruptCommitted))
    assert (committed.source, committed.payload) == ("x", "2")
    finished = reports[-1]
    assert isinstance(finished, Finished)
    assert finished.reason is FinishReason.STOP
    (row,) = finished.calls
    assert (row.result, row.delivery, row.token_index) == (Result.OK, Delivery.DELIVERED, committed.token_index)
    assert [e.sequence for e in s.events] == list(range(1, len(s.events) + 1))


async def test_a_stop_string_ends_the_session_and_its_ids_stay(serve: Serve) -> None:
    """[SES-102], [SES-103]: to `GetSession` too."""
    h = await serve()
    await h.load("s", ScriptText("yes.</a> and on"), ScriptEnd())
    s = await h.session(stop=("</a>",), sampling=SamplingParams(logprobs=True, top_logprobs=2))
    reports = await s.all()
    tokens = [r for r in reports if isinstance(r, Tokens)]
    assert "".join(r.text for r in tokens) == "yes."
    assert bytes(i for r in tokens for i in r.ids) == b"yes.</a>"
    assert [rank for r in tokens for rank in r.ranks] == [1] * 8
    assert [[t.text for t in top] for r in tokens for top in r.top_logprobs] == [[c] for c in "yes.</a>"]
    finished = reports[-1]
    assert (finished.reason, finished.stop_string) == (FinishReason.STOP_STRING, "</a>")
    detail = await h.control.GetSession(control_pb2.GetSessionRequest(session_id=reports[0].session_id))
    assert detail.finished.stop_string == "</a>"


async def test_a_client_owned_result_lands_in_the_middle_of_text(serve: Serve) -> None:
    h = await serve()
    await h.load("s", CALL, ScriptText("x"), HEAD, ScriptText("add(a=1)"), END, ScriptText("abcdef"), ScriptEnd())
    s = await h.session(tools=(SUM,), credit=14)
    await s.send(ProbeRequested(nonce="p"))
    await s.until(Probed)
    await s.send(InterruptReceived(source="x", payload='{"v":2}'))
    await s.until(InterruptAccepted)
    await s.send(CreditGranted(tokens=100))
    reports = await s.all()
    kinds = [type(r).__name__ for r in reports]
    at = kinds.index("InterruptCommitted")
    before = "".join(r.text for r in reports[:at] if isinstance(r, Tokens) and r.in_block is None)
    after = "".join(r.text for r in reports[at:] if isinstance(r, Tokens) and r.in_block is None)
    assert (before, after) == ("ab", "cdef")


async def test_results_wait_for_the_end_of_a_block(serve: Serve) -> None:
    h = await serve()
    steps = [CALL, ScriptText("x"), HEAD, ScriptText("add(a=1)"), END]
    await h.load("s", *steps, CALL, ScriptText("y"), HEAD, ScriptText("add(a=2)"), END, ScriptEnd())
    s = await h.session(tools=(SUM,), credit=15, on_end=OnEnd.DETACH)
    await s.send(ProbeRequested(nonce="in the second block"))
    probed = await s.until(Probed)
    assert probed.state is State.IN_CALL
    await s.send(InterruptReceived(source="x", payload="2"))
    await s.send(ProbeRequested(nonce="again"))
    probed = await s.until(Probed)
    assert probed.queued == 1
    await s.send(CreditGranted(tokens=100))
    await s.until(CallDispatched)
    committed = await s.until(InterruptCommitted)
    assert committed.source == "x"


async def test_a_manual_clock_times_a_call_out(serve: Serve) -> None:
    from asynclm.conformance.v1 import scripted_model_pb2

    h = await serve()
    await h.load("s", CALL, ScriptText("x"), HEAD, ScriptText("add(a=1)"), END, TRAP, END, ScriptEnd())
    s = await h.session(tools=(ToolSpec(name="add", parameters=SUM.parameters, timeout_ms=500),))
    started = await s.until(Started)
    await s.until(TrapEntered)
    done = await h.scripts.Advance(scripted_model_pb2.AdvanceRequest(session_id=started.session_id, ms=499))
    assert done.now_ms == 499
    detail = await h.control.GetSession(control_pb2.GetSessionRequest(session_id=started.session_id))
    assert detail.summary.pending_calls == 1
    await h.scripts.Advance(scripted_model_pb2.AdvanceRequest(session_id=started.session_id, ms=1))
    settled = await s.until(CallSettled)
    assert settled.row.result is Result.TIMED_OUT
    assert (await s.until(Finished)).reason is FinishReason.STOP


async def test_pause_holds_decoding_and_finish_ends_it(serve: Serve) -> None:
    h = await serve()
    await h.load("s", ScriptText("abc"), ScriptEnd())
    s = await h.session(credit=0)
    await s.send(PauseChanged(paused=True))
    await s.send(CreditGranted(tokens=10))
    await s.send(ProbeRequested(nonce="p"))
    probed = await s.until(Probed)
    assert (probed.paused, probed.credit) == (True, 10)
    await s.send(FinishRequested())
    finished = await s.until(Finished)
    assert finished.reason is FinishReason.FINISHED_BY_CLIENT
    assert finished.usage.sampled_tokens == 0


@pytest.mark.parametrize("mode", list(ExecutionMode))
async def test_every_mode_gives_the_result_before_the_text_that_needs_it(serve: Serve, mode: ExecutionMode) -> None:
    h = await serve([add])
    trap = () if mode is ExecutionMode.SYNC else (TRAP, ScriptText("x"), END)
    await h.load("s", CALL, ScriptText("x"), HEAD, ScriptText("add(a=1)"), END, *trap, ScriptText("so"), ScriptEnd())
    s = await h.session(mode=mode)
    reports = await s.all()
    committed = [type(r).__name__ for r in reports].index("InterruptCommitted")
    assert not [r for r in reports[:committed] if isinstance(r, Tokens) and r.text and r.in_block is None]
    assert "".join(r.text for r in reports[committed:] if isinstance(r, Tokens)) == "so"


async def test_a_dropped_stream_cancels_and_keeps_the_ledger(serve: Serve) -> None:
    h = await serve()
    await h.load("s", CALL, ScriptText("x"), HEAD, ScriptText("add(a=1)"), END, TRAP, END, ScriptEnd())
    s = await h.session(tools=(SUM,), on_disconnect=OnDisconnect.CANCEL)
    started = await s.until(Started)
    await s.until(TrapEntered)
    s.call.cancel()
    await h.server.hub.registry.get(started.session_id).done.wait()
    detail = await h.control.GetSession(control_pb2.GetSessionRequest(session_id=started.session_id))
    assert detail.summary.reason == 9 or detail.finished.calls  # the ledger is kept
    assert [c.id for c in detail.calls] == ["x"]


async def test_a_detached_session_goes_on_to_its_end(serve: Serve) -> None:
    release = threading.Event()

    def slow() -> str:
        """Waits to be released."""
        release.wait()
        return "done"

    h = await serve([slow])
    await h.load("s", CALL, ScriptText("x"), HEAD, ScriptText("slow()"), END, TRAP, END, ScriptEnd())
    s = await h.session(on_disconnect=OnDisconnect.DETACH)
    started = await s.until(Started)
    await s.until(TrapEntered)
    s.call.cancel()
    record = h.server.hub.registry.get(started.session_id)
    release.set()
    await record.done.wait()
    detail = await h.control.GetSession(control_pb2.GetSessionRequest(session_id=started.session_id))
    assert [(c.id, c.delivery) for c in detail.calls] == [("x", detail.calls[0].delivery)]
    assert record.finished.calls[0].delivery is Delivery.DELIVERED


async def test_many_sessions_share_the_loop(serve: Serve) -> None:
    h = await serve([add])
    await h.load("s", CALL, ScriptText("x"), HEAD, ScriptText("add(a=1)"), END, TRAP, END, ScriptText("t"), ScriptEnd())
    sessions = [await h.session() for _ in range(16)]
    for reports in await asyncio.gather(*(s.all() for s in sessions)):
        assert reports[-1].reason is FinishReason.STOP
        assert reports[-1].calls[0].delivery is Delivery.DELIVERED


async def test_sessions_are_listed_page_by_page_and_aborted_once(serve: Serve) -> None:
    h = await serve()
    await h.load("s", ScriptText("abc"), ScriptEnd())
    ids = []
    for _ in range(3):
        s = await h.session(credit=0)
        ids.append((await s.until(Started)).session_id)
    page = await h.control.ListSessions(control_pb2.ListSessionsRequest(page_size=2))
    assert [x.session_id for x in page.sessions] == ids[:2]
    page = await h.control.ListSessions(control_pb2.ListSessionsRequest(page_token=page.next_page_token))
    assert [x.session_id for x in page.sessions] == ids[2:]
    done = await h.control.AbortSessions(control_pb2.AbortSessionsRequest(session_ids=[*ids, ids[0], "none"]))
    assert list(done.aborted) == ids
    done = await h.control.AbortSessions(control_pb2.AbortSessionsRequest(session_ids=ids))
    assert list(done.aborted) == []
