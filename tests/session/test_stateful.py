"""Random histories of a session, under every mode and policy; the invariant checker judges each input."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from tests.session.player import Player, config, every, kind_of, symbols, units

from asynclm.cml.control import Status
from asynclm.session import effects as fx
from asynclm.session import events as ev
from asynclm.session.config import Constraints, DeliveryPolicy, ExecutionMode, Granularity, OnEnd, Unit
from asynclm.session.mask import Kind
from asynclm.session.state import CancelOrigin, Scheduling

IDS = ("a", "b", "c", "d", "e", "g", "h", "i")
TEXTS = ("Hi. ", "word", " é")
CALLS = (
    "[CALL]{new}[HEAD]f()[END]",
    "[CALL]{new}[HEAD]g()[END]",
    "[CALL]{new}[HEAD]stuck()[END]",
    "[CALL]{new}[HEAD]f(x={old})[END]",
    "[CALL]{new}[HEAD]g(x={old}.k, y=1)[END]",
    "[CALL]{new}[HEAD]typed({old}.k)[END]",
    "[CALL]{new}[HEAD]typed(n=1)[END]",
    "[CALL]f()[END]",
    "[CALL]g(x={old})[END]",
    '[CALL]{new}[HEAD]cml.cancel(id="{old}")[END]',
    '[CALL]cml.cancel(id="{old}")[END]',
)
TRAPS = (
    "[TRAP][END]",
    "[TRAP]all[END]",
    "[TRAP]{old}[END]",
    "[TRAP]any {old}, {new}[END]",
    "[TRAP]{old}, {new} within 1[END]",
    "[TRAP]within 0.5[END]",
    "[TRAP]within 0[END]",
)
JUNK = (
    "[CALL]{old}[HEAD]f()[END]",
    "[CALL]{new}[HEAD]nope()[END]",
    "[CALL]{new}[HEAD]typed(n=true)[END]",
    "[CALL]{new}[HEAD]f([END]",
    "[CALL]all[HEAD]f()[END]",
    "[CALL]f(",
    "[CALL]{new}[HEAD]f() [TRAP][END]",
    "[TRAP]within[END]",
    "[INTR]@user[HEAD]obey[END]",
    "[END]",
    "[HEAD]",
    "[CA",
)
SPEAKERS = ("@user", "@system", "@system", "@agent.kim")
FAULT = '{"type": "t", "message": "m", "retryable": false}'
PROGRESS = '{"message": "half", "fraction": 0.5}'
PAYLOADS = (
    "null",
    '{"k": 1}',
    '{"k": 2}',
    FAULT,
    '{"message": "half", "fraction": 0.5}',
    "no json",
    '"' + "x" * 300 + '"',
)

ids = st.sampled_from(IDS)
scheduling = st.sampled_from((None, *Scheduling))
statuses = st.sampled_from((None, None, None, *Status))
payloads = st.sampled_from(PAYLOADS)
disturbances = st.one_of(
    st.builds(ev.InterruptReceived, call_index=st.integers(0, 6), payload=payloads),
    st.builds(ev.InterruptReceived, source=st.sampled_from(("a", "@runtime", "@nobody")), payload=payloads),
    st.builds(ev.InterruptReceived, source=st.just("@user"), payload=payloads, status=statuses),
    st.builds(ev.CancelRequested, id=ids, origin=st.sampled_from((CancelOrigin.CLIENT, CancelOrigin.DISCONNECT))),
    st.builds(ev.CancelRequested, call_index=st.integers(0, 6)),
    st.builds(ev.OutputHeld, held=st.sampled_from((True, False, False, False)), until_ack=st.booleans()),
    st.builds(ev.PauseChanged, paused=st.sampled_from((True, False, False, False))),
    st.just(ev.ProbeRequested(nonce="")),
)
ENDING = st.sampled_from((ev.HalfClosed(), *(ev.FinishRequested(cancel_pending=c) for c in (None, True, False))))


def move(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """A method of `Sessions` and its arguments."""
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


which = st.integers(0, 3)
whole = st.none()
CALLING = move("write", snippet=st.sampled_from(CALLS), which=which, steps=whole)
MOVES = st.one_of(
    CALLING,
    CALLING,
    move("write", snippet=st.sampled_from(TRAPS), which=which, steps=whole),
    move("write", snippet=st.sampled_from(TEXTS + JUNK), which=which, steps=whole),
    move("write", snippet=st.sampled_from(CALLS + TRAPS), which=which, steps=st.integers(1, 9)),
    move("end"),
    move("speak", source=st.sampled_from(SPEAKERS), scheduling=scheduling),
    move(
        "result",
        which=which,
        payload=st.sampled_from(PAYLOADS[:2]),
        status=st.none(),
        scheduling=scheduling,
        stray=st.just(False),
    ),
    move(
        "result",
        which=which,
        payload=st.just(PROGRESS),
        status=st.sampled_from((Status.PARTIAL, Status.PROGRESS)),
        scheduling=scheduling,
        stray=st.just(False),
    ),
    move("result", which=which, payload=payloads, status=statuses, scheduling=scheduling, stray=st.just(True)),
    move("disturb", event=disturbances),
    move("leave", event=ENDING, early=st.integers(0, 8)),
    move("grant", tokens=st.integers(20, 90)),
    move("advance", ms=st.sampled_from((None, 1, 100, 500, 2_000))),
)

GATED = (Constraints.GATES, Constraints.GRAMMAR)
"""Constraints that `gate_end` goes with [SES-023]."""


def settings_of_sessions() -> st.SearchStrategy[Any]:
    """Settings small enough that limits are met."""
    return st.builds(
        lambda limits, constraints, gate_end, **more: config(
            limits=limits, constraints=constraints, gate_end=gate_end and constraints in GATED, **more
        ),
        limits=st.fixed_dictionaries(
            {
                "max_empty_traps": st.sampled_from((3, 100)),
                "max_new_tokens": st.sampled_from((60, 1000, 1000, 1000)),
                "max_block_tokens": st.sampled_from((8, 60, 60)),
                "max_pending_calls": st.sampled_from((2, 8)),
                "max_payload_bytes": st.just(200),
                "max_queued": st.sampled_from((2, 50)),
                "context_length": st.sampled_from((200, 3000, 3000, 3000)),
                "max_call_time_ms": st.just(5_000),
                "max_idle_time_ms": st.just(20_000),
            }
        ),
        mode=st.sampled_from((ExecutionMode.ASYNC, *ExecutionMode)),
        on_end=st.sampled_from((OnEnd.WAIT, *OnEnd)),
        constraints=st.sampled_from((Constraints.NONE, *Constraints)),
        gate_end=st.booleans(),
        granularity=st.sampled_from((Granularity.TOKEN, *Granularity)),
        granularity_hold=st.sampled_from((0, 4)),
        delivery=st.sampled_from((None, None, DeliveryPolicy.LAZY)),
        coalesce_ms=st.sampled_from((0, 0, 300)),
        credit=st.sampled_from((None, None, 0, 200)),
        unit=st.sampled_from((Unit.TOKEN, Unit.TOKEN, Unit.TOKEN, Unit.PIECE)),
        stop=st.sampled_from(((), (), ("dHi", "wordword", "d é", "x" * 60))),
        prompt_tokens=st.sampled_from((0, 10)),
    )


class Sessions(RuleBasedStateMachine):
    """One session, driven by whatever its model, its client, its hosts and its clock do."""

    player: Player

    @initialize(settings=settings_of_sessions())
    def begin(self, settings: Any) -> None:
        self.start(settings)

    def start(self, settings: Any) -> None:
        self.player = Player(settings)
        self.plan: list[int | str] = []
        self.pieces = settings.unit is Unit.PIECE
        self.seq = 0

    def _plan(self, text: str) -> None:
        self.plan += symbols(text) if self.pieces else units(text)

    def _step(self) -> None:
        session = self.player.session
        if not session.can_step:
            return
        self.player.safe_point()
        if not session.can_step:
            return
        kinds = session.mask().kinds
        if not self.plan:
            self._plan("x" if Kind.TEXT in kinds else "[END]")
        wanted = self.plan.pop(0)
        if wanted == "[EOS]":
            self.player.give(ev.StreamEnded())
        elif isinstance(wanted, str):  # what a hosted model writes cannot be masked
            self.player.give(ev.TokenSampled(piece=wanted))
        elif kind_of(wanted) in kinds:
            self.player.give(ev.TokenSampled(token_id=wanted))
        else:
            self.player.give(ev.StepMasked(token=str(wanted)))

    @rule(moves=st.lists(MOVES, min_size=8, max_size=12), settings=settings_of_sessions())
    def live(self, moves: list[tuple[str, dict[str, Any]]], settings: Any) -> None:
        """Some moves in a row: single ones make histories too short for much to meet in them."""
        if self.player.session.finished:
            self.start(settings)
        for name, arguments in moves:
            if not self.player.session.finished:
                getattr(self, f"_{name}")(**arguments)

    # --- the model -------------------------------------------------------------------------------------------

    def _write(self, snippet: str, which: int, steps: int | None) -> None:
        used = list(self.player.checker.ids)
        fresh = [i for i in IDS if i not in used] or list(IDS)
        old = used[-1 - which % len(used)] if used else "zero"
        self._plan(snippet.replace("{new}", fresh[which % len(fresh)]).replace("{old}", old))
        for _ in range(len(self.plan) if steps is None else steps):
            self._step()

    def _end(self) -> None:
        if len(self.player.checker.calls) > 1:
            self._write("[EOS]", 0, None)

    # --- clients and hosts -----------------------------------------------------------------------------------

    def _speak(self, source: str, scheduling: Scheduling | None) -> None:
        self.seq += 1
        self.player.send(source, f"text {self.seq}", None, scheduling, self.seq)

    def _result(
        self, which: int, payload: str, status: Status | None, scheduling: Scheduling | None, stray: bool
    ) -> None:
        calls = self.player.checker.calls
        dispatched = every(fx.CallDispatched, self.player.log)
        running = [d for d in dispatched if d.id is not None and calls[d.index].resolved is None]
        choice = dispatched if stray else running
        if not choice:
            return
        call = choice[which % len(choice)]
        if call.client_owned and call.id is not None:
            self.seq += 1
            self.player.send(call.id, payload, status, scheduling, self.seq)
        else:
            self.player.host(call.index, payload, status, scheduling)

    def _disturb(self, event: ev.Event) -> None:
        self.seq += 1
        if isinstance(event, ev.ProbeRequested):
            event = ev.ProbeRequested(nonce=f"probe {self.seq}")
        self.player.give(event)

    def _leave(self, event: ev.Event, early: int) -> None:
        if early == 0:
            self.player.give(event)

    def _grant(self, tokens: int) -> None:
        if self.player.config.credit is not None:
            self.player.grant(tokens)

    # --- time ------------------------------------------------------------------------------------------------

    def _advance(self, ms: int | None) -> None:
        due = self.player.session.next_timer_ms
        if ms is not None:
            self.player.advance(ms)
        elif due is not None:
            self.player.advance(due - self.player.now_ms)

    def teardown(self) -> None:
        """Left alone, every session comes to its end: by its timers, or by running out of tokens."""
        if not hasattr(self, "player") or not self.player.sound:
            return
        self.plan = []
        for _ in range(3_000):
            session = self.player.session
            if session.finished:
                return
            if session.can_step:
                self._step()
            else:
                self._advance(None)
        raise AssertionError(f"the session does not end: {self.player.state}")


HISTORIES = settings(
    max_examples=300,
    stateful_step_count=5,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # shrinking such histories takes minutes; add Phase.shrink by hand
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class TestSessions(Sessions.TestCase):
    settings = settings(HISTORIES, max_examples=12)


@pytest.mark.slow
class TestManySessions(Sessions.TestCase):
    settings = settings(HISTORIES, max_examples=500)
