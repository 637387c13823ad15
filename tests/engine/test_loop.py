"""The engine loop on small engines made for it: a fault ends what it concerns and nothing else; order; clocks; ends.

Real threads, no sleeps: whatever a test waits for is an event that the loop has to bring about.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from asynclm.cml.blocks import Reference
from asynclm.cml.control import Control, Status
from asynclm.cml.toolspec import ToolSpec
from asynclm.engine.base import EngineError, Sampled, SamplingParams, SequenceId, StepRequest
from asynclm.engine.constraints import compile_constraint
from asynclm.engine.loop import EngineLoop, SessionNotFoundError
from asynclm.engine.running import SessionRequest, TimedReport
from asynclm.engine.script import Script, ScriptControl, ScriptCopy, ScriptEnd, ScriptStep, ScriptText
from asynclm.engine.scripted import ScriptedEngine, open_engine
from asynclm.server.tool_host import LocalToolHost
from asynclm.session import effects as fx
from asynclm.session.config import Constraints, Limits, OnEnd, SessionConfig
from asynclm.session.events import (
    CreditGranted,
    FinishRequested,
    InterruptReceived,
    OutputHeld,
    PauseChanged,
    TokenSampled,
)
from asynclm.session.machine import Session
from asynclm.session.state import Delivery, FinishReason, Result
from asynclm.tools.toolset import ToolSet

CALL, HEAD, END, TRAP = (ScriptControl(c) for c in (Control.CALL, Control.HEAD, Control.END, Control.TRAP))
F = ToolSpec(name="f", parameters={"type": "object"})
PATIENCE_S = 60
"""What a test waits for an event at most; far longer than any of them takes."""


def call(name: str, body: str = "f()") -> tuple[ScriptStep, ...]:
    return (CALL, ScriptText(name), HEAD, ScriptText(body), END)


class Faulty(ScriptedEngine):
    """The scripted engine with faults: each is looked up by the name of a method when it is called."""

    def __init__(self) -> None:
        sound = open_engine()
        super().__init__(tokenizer=sound.tokenizer, codec=sound.codec, template=sound.template)
        self.faults: dict[str, Callable[..., None]] = {}
        self.steps: list[tuple[SequenceId, ...]] = []

    def _meet(self, name: str, *given: Any) -> None:
        fault = self.faults.get(name)
        if fault is not None:
            fault(*given)

    def step(self, requests: Sequence[StepRequest]) -> list[Sampled]:
        self.steps.append(tuple(request.sequence for request in requests))
        self._meet("step", requests)
        return super().step(requests)

    def append(self, sequence: SequenceId, ids: Sequence[int]) -> None:
        self._meet("append", sequence)

    def suspend(self, sequence: SequenceId, expected_wait_ms: int | None) -> None:
        self._meet("suspend", sequence)

    def resume(self, sequence: SequenceId) -> None:
        self._meet("resume", sequence)

    def close(self, sequence: SequenceId) -> None:
        super().close(sequence)
        self._meet("close", sequence)


class Watched:
    """One session's reports, as they come."""

    def __init__(self) -> None:
        self.reports: list[Any] = []
        self.times: list[int] = []
        self.deaf = False
        self.held: OutputHeld | None = None
        self._arriving: queue.SimpleQueue[TimedReport] = queue.SimpleQueue()

    def sink(self, batch: Sequence[TimedReport]) -> OutputHeld | None:
        if self.deaf:
            raise RuntimeError("nobody listens")
        for timed in batch:
            self._arriving.put(timed)
        return self.held

    def until(self, kind: type, **values: Any) -> Any:
        while True:
            timed = self._arriving.get(timeout=PATIENCE_S)
            self.reports.append(timed.report)
            self.times.append(timed.time_ms)
            if isinstance(timed.report, kind) and all(getattr(timed.report, k) == v for k, v in values.items()):
                return timed.report

    @property
    def finished(self) -> fx.Finished:
        report: fx.Finished = self.until(fx.Finished)
        assert self._arriving.empty()
        return report

    @property
    def text(self) -> str:
        return "".join(r.text for r in self.reports if isinstance(r, fx.Tokens) and r.in_block is None)


class Bench:
    """A loop with one engine, and sessions on it by name."""

    def __init__(self, loop: EngineLoop | None = None) -> None:
        self.loop = loop or EngineLoop()
        self.engine = Faulty()
        self.constraint = compile_constraint(self.engine.codec, self.engine.tokenizer, grammar=False)
        self.loop.start()

    def start(self, name: str, *steps: ScriptStep, manual: bool = False, **settings: Any) -> Watched:
        watched = Watched()
        settings.setdefault("constraints", Constraints.NONE)
        settings.setdefault("tools", (F,))
        settings.setdefault("client_tools", frozenset({"f"}))
        self.loop.open(self.request(name, watched, steps, manual, SessionConfig(**settings))).result(PATIENCE_S)
        return watched

    def request(
        self, name: str, watched: Watched, steps: Sequence[ScriptStep], manual: bool, config: SessionConfig
    ) -> SessionRequest:
        return SessionRequest(
            session_id=name,
            engine=self.engine,
            prompt_ids=(65,),
            config=config,
            sampling=SamplingParams(),
            constraint=self.constraint.session(),
            sink=watched.sink,
            script=Script(name, tuple(steps)),
            manual_clock=manual,
        )

    def say(self, name: str, text: str = "hey") -> None:
        self.loop.post(name, InterruptReceived(source="@user", payload=text))

    def result(self, name: str, call_id: str, payload: str = "1") -> None:
        self.loop.post(name, InterruptReceived(source=call_id, payload=payload))

    def serves_on(self) -> None:
        """Whatever happened, new sessions run."""
        self.engine.faults.clear()
        watched = self.start("after", ScriptText("fine"), ScriptEnd())
        assert watched.finished.reason is FinishReason.STOP
        assert watched.text == "fine"


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.loop.stop()


# --- faults of an engine -----------------------------------------------------------------------------------------


def test_a_fault_of_one_sequence_ends_its_session_only(bench: Bench) -> None:
    """[ERR-007, ERR-008]."""
    bad = bench.start("bad", *call("a"), ScriptText("never read"), ScriptEnd(), credit=8)
    good = bench.start("good", ScriptText("all of it"), ScriptEnd(), credit=0)
    bad.until(fx.Tokens, text="n")

    def fault(requests: Sequence[StepRequest]) -> None:
        if requests[0].sequence == 0 or len(requests) > 1:
            raise EngineError("row 0 is lost", sequence=SequenceId(0))

    bench.engine.faults["step"] = fault
    bench.loop.post("good", CreditGranted(tokens=100))
    bench.loop.post("bad", CreditGranted(tokens=100))
    finished = bad.finished
    assert (finished.reason, finished.message) == (FinishReason.ENGINE_ERROR, "row 0 is lost")
    assert [(row.id, row.result, row.delivery) for row in finished.calls] == [("a", Result.NONE, Delivery.UNDELIVERED)]
    assert good.finished.reason is FinishReason.STOP
    assert good.text == "all of it"
    bench.serves_on()


@pytest.mark.parametrize("error", [RuntimeError("out of memory at /secret/path"), EngineError("the device is gone")])
def test_a_fault_of_the_whole_engine_ends_what_runs_and_no_more(bench: Bench, error: Exception) -> None:
    first = bench.start("first", ScriptText("x"), ScriptEnd(), credit=0)
    second = bench.start("second", ScriptText("x"), ScriptEnd(), credit=0)
    waits = bench.start("waits", *call("a"), TRAP, END, ScriptText("told"), ScriptEnd())
    waits.until(fx.TrapEntered)

    def fault(_: object) -> None:
        raise error

    bench.engine.faults["step"] = fault
    for name in ("first", "second"):
        bench.loop.post(name, CreditGranted(tokens=9))
    ends = [watched.finished for watched in (first, second)]
    assert {finished.reason for finished in ends} == {FinishReason.ENGINE_ERROR}
    assert not any("secret" in finished.message for finished in ends)
    bench.engine.faults.clear()
    bench.result("waits", "a")
    assert waits.finished.reason is FinishReason.STOP
    bench.serves_on()


def test_a_fault_of_a_sequence_that_nobody_knows_ends_what_runs(bench: Bench) -> None:
    """Else the same step would be tried again and fail for ever."""
    watched = bench.start("a", ScriptText("x"), ScriptEnd(), credit=0)

    def fault(_: object) -> None:
        raise EngineError("row 99", sequence=SequenceId(99))

    bench.engine.faults["step"] = fault
    bench.loop.post("a", CreditGranted(tokens=9))
    assert watched.finished.reason is FinishReason.ENGINE_ERROR
    bench.serves_on()


@pytest.mark.parametrize("method", ["append", "suspend", "resume"])
def test_a_fault_while_effects_are_carried_out_ends_its_session_only(bench: Bench, method: str) -> None:
    bad = bench.start("bad", *call("a"), TRAP, END, ScriptText("x"), ScriptEnd(), credit=0)
    good = bench.start("good", *call("a"), TRAP, END, ScriptText("x"), ScriptEnd(), credit=0)

    def fault(sequence: SequenceId) -> None:
        if sequence == 0:
            raise RuntimeError(f"{method} failed")

    bench.engine.faults[method] = fault
    for name in ("bad", "good"):
        bench.loop.post(name, CreditGranted(tokens=100))
    good.until(fx.TrapEntered)
    for name in ("bad", "good"):
        bench.result(name, "a")
    finished = bad.finished
    assert finished.reason is FinishReason.ENGINE_ERROR
    assert [row.index for row in finished.calls] == [0]
    assert good.finished.reason is FinishReason.STOP
    bench.serves_on()


def test_a_fault_while_a_sequence_is_closed_changes_nothing(bench: Bench) -> None:
    def fault(_: object) -> None:
        raise RuntimeError("close failed")

    bench.engine.faults["close"] = fault
    for name in ("one", "two"):
        watched = bench.start(name, ScriptText("x"), ScriptEnd())
        assert watched.finished.reason is FinishReason.STOP
    bench.serves_on()


def test_an_engine_that_cannot_open_a_sequence_refuses_one_session(bench: Bench, monkeypatch: Any) -> None:
    def full(*_: object, **__: object) -> SequenceId:
        raise EngineError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(bench.engine, "open", full)
        with pytest.raises(EngineError, match="no room"):
            bench.start("full", ScriptEnd())
    with pytest.raises(SessionNotFoundError):
        bench.loop.inspect("full", lambda machine: machine.state).result(PATIENCE_S)
    bench.serves_on()


# --- faults of the machine and of those around it ----------------------------------------------------------------


def break_tokens(patch: pytest.MonkeyPatch, *, finishing: bool) -> None:
    """Sessions whose credit ends at 7 have a broken machine."""
    sound = Session.receive

    def receive(self: Session, event: Any) -> list[fx.Effect]:
        if isinstance(event, TokenSampled) and self.credit == 7:
            raise RuntimeError("a bug at /secret/path")
        if finishing and isinstance(event, FinishRequested) and self.credit == 7:
            raise RuntimeError("another bug")
        return sound(self, event)

    patch.setattr(Session, "receive", receive)


@pytest.mark.parametrize("finishing", [False, True], ids=["machine", "machine that cannot even finish"])
def test_a_machine_that_raises_costs_its_own_session(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, finishing: bool
) -> None:
    break_tokens(monkeypatch, finishing=finishing)
    bad = bench.start("bad", *call("a"), ScriptText("more of it"), ScriptEnd(), credit=20)
    good = bench.start("good", ScriptText("all of it"), ScriptEnd())
    finished = bad.finished
    assert finished.reason is FinishReason.ENGINE_ERROR
    assert "secret" not in finished.message
    assert [row.id for row in finished.calls] == ["a"]
    assert finished.usage.sampled_tokens == 13
    assert good.finished.reason is FinishReason.STOP
    bench.serves_on()


def test_a_mask_that_cannot_be_made_costs_its_own_session(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = bench.start("bad", ScriptText("x"), ScriptEnd(), credit=0)

    def fault(*_: object) -> bool:
        raise ValueError("no such mask")

    with monkeypatch.context() as patch:
        patch.setattr("asynclm.engine.constraints.SessionConstraint.allows", fault)
        bench.loop.post("bad", CreditGranted(tokens=9))
        assert watched.finished.reason is FinishReason.ENGINE_ERROR
    bench.serves_on()


def test_a_sink_that_raises_costs_its_own_session(bench: Bench) -> None:
    bad = bench.start("bad", *call("a"), TRAP, END, ScriptEnd(), credit=0)
    good = bench.start("good", ScriptText("all of it"), ScriptEnd(), credit=0)
    bad.deaf = True
    for name in ("bad", "good"):
        bench.loop.post(name, CreditGranted(tokens=100))
    assert good.finished.reason is FinishReason.STOP
    bench.serves_on()


def test_a_session_whose_reader_is_behind_samples_what_was_planned_and_waits(bench: Bench) -> None:
    """[WIRE-061]: it may be told so between the plan of a step and the step, where a step begins with a commit."""
    watched = bench.start("a", ScriptText("xyz"), ScriptEnd(), credit=0)
    watched.held = OutputHeld(held=True)
    bench.say("a")
    watched.until(fx.InterruptAccepted)
    bench.loop.post("a", OutputHeld(held=False))
    bench.loop.post("a", CreditGranted(tokens=100))
    watched.until(fx.InterruptCommitted)
    watched.until(fx.Tokens)
    assert not bench.loop.inspect("a", lambda machine: machine.can_step).result(PATIENCE_S)
    watched.held = None
    bench.loop.post("a", OutputHeld(held=False))
    assert watched.finished.reason is FinishReason.STOP


def test_a_callback_for_a_peers_fault_that_raises_is_only_logged(bench: Bench) -> None:
    def fault(_: Exception) -> None:
        raise RuntimeError("the event loop is closed")

    watched = bench.start("a", *call("a"), TRAP, END, ScriptEnd())
    watched.until(fx.TrapEntered)
    bench.loop.post("a", CreditGranted(tokens=1), fault)  # on unlimited credit: the peer's fault
    bench.result("a", "a")
    assert watched.finished.reason is FinishReason.STOP


def test_a_copy_of_nothing_ends_the_script_and_says_so(bench: Bench) -> None:
    """[SCR-032]."""
    watched = bench.start("a", ScriptText("x"), ScriptCopy(Reference("nobody")), ScriptEnd())
    finished = watched.finished
    assert finished.reason is FinishReason.SCRIPT_END
    assert "nobody" in finished.message


class LostHost:
    """A tool host that is gone."""

    def dispatch(self, session_id: str, call: fx.CallDispatched) -> None:
        raise RuntimeError("gone, from /secret/path")

    def cancel(self, session_id: str, request: fx.CallCancelRequested) -> None:
        raise RuntimeError("gone")


def test_a_tool_host_that_is_lost_is_an_error_of_its_calls() -> None:
    """[ERR-048]."""
    bench = Bench(EngineLoop(LostHost()))
    watched = bench.start("a", *call("x"), TRAP, END, ScriptText("so"), ScriptEnd(), client_tools=frozenset())
    committed = watched.until(fx.InterruptCommitted)
    assert (committed.source, committed.status) == ("x", Status.ERROR)
    assert json.loads(committed.payload)["type"] == "tool_error"
    assert "secret" not in committed.payload
    assert watched.finished.reason is FinishReason.STOP
    waits = bench.start("b", *call("x"), TRAP, END, client_tools=frozenset(), credit=0)
    bench.loop.post("b", FinishRequested(cancel_pending=True))
    assert waits.finished.reason is FinishReason.FINISHED_BY_CLIENT
    bench.serves_on()
    bench.loop.stop()


# --- the inbox -----------------------------------------------------------------------------------------------------


def test_a_question_that_is_taken_back_is_not_answered_and_harms_nobody(bench: Bench) -> None:
    """The asking side may vanish between its question and the answer."""
    held, asked = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        assert held.wait(PATIENCE_S)

    bench.loop.call(hold)
    assert asked.wait(PATIENCE_S)
    question: concurrent.futures.Future[None] = bench.loop.call(lambda: None)
    assert question.cancel()
    held.set()
    bench.serves_on()


def test_a_flood_of_events_keeps_no_session_from_decoding(bench: Bench) -> None:
    """[SES-006, WIRE-060]: what arrives while the inbox is emptied waits for the next step."""
    over = threading.Event()

    def again() -> None:
        if not over.is_set():
            bench.loop.call(again)

    bench.loop.call(again)
    try:
        watched = bench.start("a", ScriptText("all of it"), ScriptEnd())
        assert watched.finished.reason is FinishReason.STOP
    finally:
        over.set()


def test_events_are_applied_in_the_order_in_which_they_were_posted(bench: Bench) -> None:
    """[WIRE-031]."""
    watched = bench.start("a", ScriptText("x"), ScriptEnd(), credit=0)
    for number in range(50):
        bench.loop.post("a", InterruptReceived(source="@user", payload=str(number), client_seq=number + 1))
    bench.loop.post("a", CreditGranted(tokens=9))
    finished = watched.finished
    assert [r.client_seq for r in watched.reports if isinstance(r, fx.InterruptAccepted)] == list(range(1, 51))
    assert [r.payload for r in watched.reports if isinstance(r, fx.InterruptCommitted)] == [str(n) for n in range(50)]
    assert all(row.delivery is Delivery.DELIVERED for row in finished.interrupts)


def test_events_for_sessions_that_are_not_open_are_ignored(bench: Bench) -> None:
    bench.say("nobody")
    bench.serves_on()


def test_an_interrupt_waits_for_at_most_the_step_in_progress(bench: Bench) -> None:
    """[INT-006]: what arrives while a step runs is committed before the next."""
    watched = bench.start("a", ScriptText("abcdef"), ScriptEnd(), credit=0)

    def speak(_: object) -> None:
        if len(bench.engine.steps) == 3:
            bench.say("a")

    bench.engine.faults["step"] = speak
    bench.loop.post("a", CreditGranted(tokens=100))
    committed = watched.until(fx.InterruptCommitted)
    assert committed.token_index == 3
    assert watched.text == "abc"


def test_a_session_id_is_taken_until_its_session_is_over(bench: Bench) -> None:
    watched = bench.start("a", ScriptText("x"), ScriptEnd(), credit=0)
    with pytest.raises(ValueError, match="is taken"):
        bench.start("a", ScriptEnd())
    bench.loop.post("a", FinishRequested())
    assert watched.finished.reason is FinishReason.FINISHED_BY_CLIENT
    assert bench.start("a", ScriptEnd()).finished.reason is FinishReason.STOP


# --- clocks --------------------------------------------------------------------------------------------------------


def test_a_manual_clock_fires_each_timer_at_its_own_time(bench: Bench) -> None:
    """[SCR-020 to SCR-024]."""
    late = ToolSpec(name="late", parameters={"type": "object"}, timeout_ms=300)
    early = ToolSpec(name="early", parameters={"type": "object"}, timeout_ms=200)
    watched = bench.start(
        "a",
        *call("x", "late()"),
        *call("y", "early()"),
        TRAP,
        ScriptText("all within 0.25"),
        END,
        ScriptEnd(),
        manual=True,
        tools=(late, early),
        client_tools=frozenset({"late", "early"}),
    )
    watched.until(fx.TrapEntered)
    assert bench.loop.advance("a", 199).result(PATIENCE_S) == 199
    bench.loop.post("a", PauseChanged(paused=True))
    assert bench.loop.advance("a", 801).result(PATIENCE_S) == 1000
    watched.until(fx.InterruptAccepted, source="x")
    ends = zip(watched.reports, watched.times, strict=True)
    assert [(r.source, at) for r, at in ends if isinstance(r, fx.InterruptAccepted)] == [
        ("y", 200),
        ("@runtime", 250),
        ("x", 300),
    ]
    bench.loop.post("a", PauseChanged(paused=False))
    finished = watched.finished
    assert [row.timings.resolved_ms for row in finished.calls] == [300, 200]


def test_only_manual_clocks_are_moved_and_only_forward(bench: Bench) -> None:
    """[SCR-025]."""
    bench.start("wall", ScriptEnd(), credit=0)
    bench.start("manual", ScriptEnd(), credit=0, manual=True)
    with pytest.raises(ValueError, match="wall clock"):
        bench.loop.advance("wall", 1).result(PATIENCE_S)
    with pytest.raises(ValueError, match="0 or more"):
        bench.loop.advance("manual", -1).result(PATIENCE_S)
    with pytest.raises(SessionNotFoundError):
        bench.loop.advance("nobody", 1).result(PATIENCE_S)


def test_the_wall_clock_wakes_the_loop_for_its_timers(bench: Bench) -> None:
    """No event comes; the call's time-out alone ends the trap."""
    brief = ToolSpec(name="f", parameters={"type": "object"}, timeout_ms=1)
    watched = bench.start("a", *call("x"), TRAP, END, ScriptEnd(), tools=(brief,))
    finished = watched.finished
    assert finished.reason is FinishReason.STOP
    assert finished.calls[0].result is Result.TIMED_OUT


def test_a_timer_in_another_age_stops_nobody(bench: Bench) -> None:
    """Limits have no upper end; the waits of an operating system do."""
    ages = Limits(max_idle_time_ms=1 << 60)
    watched = bench.start("a", ScriptText("x"), ScriptEnd(), credit=0, limits=ages)
    bench.loop.post("a", CreditGranted(tokens=9))
    assert watched.finished.reason is FinishReason.STOP


# --- tools ---------------------------------------------------------------------------------------------------------


class Endless(Faulty):
    """Never yields: it calls a tool, samples text as fast as it can until the tool has begun, then ten tokens more."""

    def __init__(self, begun: threading.Event, decoded: threading.Event) -> None:
        super().__init__()
        self._begun = begun
        self._decoded = decoded
        ids, text = self.codec.control_ids, self.codec.encode_text
        opening = [ids[Control.CALL], *text("x"), ids[Control.HEAD], *text("work()"), ids[Control.END]]
        self._wanted = iter(opening)
        self._more = 10

    def step(self, requests: Sequence[StepRequest]) -> list[Sampled]:
        token = next(self._wanted, self.codec.encode_text(".")[0])
        if self._begun.is_set():
            self._more -= 1
        if self._more == 0:
            self._decoded.set()
            token = min(self.codec.eos_ids)
        return [Sampled(request.sequence, token) for request in requests]


def test_a_tool_starts_at_its_dispatch_while_decoding_saturates_the_cpu() -> None:
    """[CALL-016, CALL-017]: the sequence ends only after the tool has begun, and there is no trap to begin it at."""
    begun, decoded = threading.Event(), threading.Event()

    def work() -> str:
        """Says that it has begun, and ends when more has been decoded."""
        begun.set()
        assert decoded.wait(PATIENCE_S)
        return "done"

    host = LocalToolHost(ToolSet([work]))
    loop = EngineLoop(host)
    host.connect(loop.post)
    bench = Bench(loop)
    bench.engine = Endless(begun, decoded)
    limits = Limits(max_new_tokens=1 << 40, context_length=1 << 41)
    config = SessionConfig(constraints=Constraints.NONE, tools=host.tools.specs, limits=limits)
    watched = Watched()
    request = bench.request("a", watched, (), False, config)
    loop.open(dataclasses.replace(request, script=None)).result(PATIENCE_S)
    watched.until(fx.CallDispatched)
    watched.until(fx.Tokens, text=".")
    committed = watched.until(fx.InterruptCommitted)
    assert (committed.source, committed.payload) == ("x", '"done"')
    assert not [report for report in watched.reports if isinstance(report, fx.TrapEntered)]
    loop.post("a", FinishRequested())
    assert watched.finished.calls[0].delivery is Delivery.DELIVERED
    loop.stop()
    host.close()


# --- the end of the loop -------------------------------------------------------------------------------------------


def test_stopping_ends_every_session_with_its_ledger(bench: Bench) -> None:
    """[SES-072, WIRE-131]: what is pending is cancelled."""
    trapped = bench.start("trapped", *call("a"), TRAP, END, ScriptEnd())
    idle = bench.start("idle", ScriptEnd(), on_end=OnEnd.KEEP)
    poor = bench.start("poor", ScriptText("x"), ScriptEnd(), credit=0)
    trapped.until(fx.TrapEntered)
    idle.until(fx.StateChanged)
    bench.loop.stop()
    bench.loop.stop()
    assert {watched.finished.reason for watched in (idle, poor)} == {FinishReason.ABORTED}
    assert trapped.finished.calls[0].result is Result.CANCELLED
    with pytest.raises(RuntimeError, match="stopped"):
        bench.loop.call(lambda: None).result(PATIENCE_S)


def test_questions_that_meet_the_stop_are_answered_all_the_same(bench: Bench) -> None:
    """Nobody waits for ever for a loop that has stopped, or that is told so twice."""
    held, asked = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        assert held.wait(PATIENCE_S)

    bench.loop.call(hold)
    assert asked.wait(PATIENCE_S)
    stopping = threading.Thread(target=bench.loop.stop)
    stopping.start()
    again = threading.Thread(target=bench.loop.stop)
    again.start()
    questions: list[concurrent.futures.Future[Any]] = []
    watched = Watched()
    request = bench.request("late", watched, (ScriptEnd(),), False, SessionConfig())
    while stopping.is_alive():
        questions.append(bench.loop.call(lambda: 7))
        questions.append(bench.loop.open(request))
        held.set()
    for question in questions:
        assert question.exception(PATIENCE_S) is None or isinstance(question.exception(), RuntimeError | ValueError)
    stopping.join()
    again.join()


def test_a_loop_that_was_never_started_can_be_stopped() -> None:
    EngineLoop().stop()


async def test_awaiting_a_loop_from_an_event_loop_can_be_cancelled(bench: Bench) -> None:
    """A cancelled rpc must not take the engine's thread with it."""
    for _ in range(50):
        waiting = asyncio.ensure_future(asyncio.wrap_future(bench.loop.call(lambda: None)))
        await asyncio.sleep(0)
        waiting.cancel()
    bench.serves_on()
