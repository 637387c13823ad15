"""Where a session's time went, told beside `Finished`, on a manual clock."""

from __future__ import annotations

from tests.server.harness import Serve

from asynclm.cml.control import Control
from asynclm.cml.toolspec import ToolSpec
from asynclm.conformance.v1 import scripted_model_pb2
from asynclm.engine.script import ScriptControl, ScriptEnd, ScriptText
from asynclm.session.effects import Finished, InterruptAccepted, TrapEntered, TrapExited
from asynclm.wire.values import SessionTimings, Started


async def test_time_at_a_trap_is_told_apart(serve: Serve) -> None:
    h = await serve()
    call, head, end, trap = (ScriptControl(c) for c in (Control.CALL, Control.HEAD, Control.END, Control.TRAP))
    await h.load("s", call, ScriptText("x"), head, ScriptText("f()"), end, trap, end, ScriptText("so"), ScriptEnd())
    s = await h.session(tools=(ToolSpec(name="f", timeout_ms=400),))
    started = await s.until(Started)
    await s.until(TrapEntered)
    await h.scripts.Advance(scripted_model_pb2.AdvanceRequest(session_id=started.session_id, ms=1000))
    await s.until(Finished)
    # The call times out at its own time; what is decoded then is decoded once the clock stands still again.
    assert [e.time_ms for e in s.events if isinstance(e.report, InterruptAccepted | TrapExited)] == [400, 400]
    assert s.events[-1].timings == SessionTimings(first_token_ms=0, total_ms=1000, suspended_ms=400)
